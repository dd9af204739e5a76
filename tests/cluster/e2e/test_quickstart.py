"""The quickstart on a user's own cluster, by its runtime's images."""

import json
from typing import Any

import pytest
from cluster import quickstart
from cluster.e2e.conftest import Place
from make import runs

MINUTES = 30
"""Images of several GB are pulled, and nodes may have to be started."""


@pytest.mark.timeout(MINUTES * 60 + 600)
def test_from_apply_to_complete(place: Place) -> None:
    def adapt(pod: dict[str, Any]) -> None:
        pod["containers"][0]["image"] = place.image

    place.kubectl.apply(quickstart.claim())
    quickstart.fill(place.kubectl, adapt)
    spec = quickstart.spec()
    if place.runtime != "cpu":
        # One device is enough for the whole run.
        spec["stages"][0]["train"]["numNodes"] = 1
    place.kubectl.apply(runs.applied(name="quickstart", **spec, runtimeRef={"name": place.runtime}))
    waited = place.kubectl.run(
        "wait", "--for=condition=Complete", "ixtrun/quickstart", f"--timeout={MINUTES}m"
    )
    status = place.kubectl.json("get", "ixtrun", "quickstart")["status"]
    events = place.kubectl("get", "events", "--sort-by=.lastTimestamp")
    assert waited.returncode == 0, (json.dumps(status["conditions"], indent=1), events[-3000:])
    assert {step["state"] for stage in status["stages"] for step in stage["steps"]} == {"Complete"}
