"""Why pods wait is asked in the background: at what cost, and what happens when nobody answers."""

import time
from functools import partial
from typing import Any

import pytest
from make import runs
from make.api import Api
from make.children import SUCCEED, tasks
from make.objects import NOW, Object, condition, container, pod, workload
from make.objects import time as at

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import EVENTS, JOBS, PODS, RUNS, ApiError
from ixt_operator.adapters.kubernetes.explaining import FIRST_SECONDS, LONGEST_SECONDS, Explainer
from ixt_operator.adapters.kubernetes.platform import KubernetesPlatform
from ixt_operator.planner.observed import Observed
from ixt_operator.render.render import render

PODS_OF_A_GANG = 256
GANG = tasks("gang", SUCCEED, indexes=PODS_OF_A_GANG)
SAID = 'MountVolume.SetUp failed for volume "keys": secret "keys" not found'


class Cluster:
    """A run whose 256 pods have a node and do not start, and the API server's double."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", lambda: NOW + 600)
        self.api, self.cache, self.now = Api(), Cache(), 0.0
        self.changed: list[tuple[str, str]] = []
        self.explainer = Explainer(
            self.api, self.cache, lambda *run: self.changed.append(run), lambda: self.now
        )
        metadata = runs.run().metadata
        rendered = partial(render, runs.run(), runs.runtime())
        self.platform = KubernetesPlatform(self.api, self.cache, metadata, {}, self.explainer, rendered)
        self.cache.put(RUNS, self.api.put(runs.manifest(), RUNS.path("default", "test")))
        self.have_job(workload(GANG))
        self.pods = [self.have_pod(index) for index in range(PODS_OF_A_GANG)]

    def have_job(self, job: Object) -> None:
        metadata = {**job["metadata"], "uid": "uid-gang"}
        owned = self.api.put({**job, "metadata": metadata}, JOBS.path("default", "gang"))
        self.cache.put(JOBS, owned)

    def have_pod(self, index: int) -> Object:
        waits: dict[str, Any] = container(waiting={"reason": "ContainerCreating"})
        manifest = pod(GANG, index, conditions=[condition("PodScheduled", after=1)], **waits)
        found = self.api.put(manifest, PODS.path("default", manifest["metadata"]["name"]))
        self.cache.put(PODS, found)
        return found

    def warn(self, about: Object, message: str, after: float = 1.0) -> None:
        event = {
            "metadata": {
                "name": f"{message}-{after}",
                "namespace": "default",
                "managedFields": [{"time": at(after)}],
            },
            "involvedObject": {"uid": about["metadata"]["uid"]},
            "type": "Warning",
            "reason": "FailedMount",
            "message": message,
        }
        self.api.put(event, EVENTS.path("default", f"{len(self.api.objects)}"))

    async def reasons(self) -> list[str]:
        found: Observed = await self.platform.observe()
        return [process.reason for process in found.children["gang"].processes]

    async def lists(self, seconds: int) -> int:
        """How many lists of events so many seconds take."""
        self.api.calls.clear()
        for _ in range(seconds):
            self.now += 1.0
            await self.explainer.ask()
        return self.api.calls.count(("GET", "events"))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


async def test_256_pods_that_wait_cost_one_list_and_looks_none(cluster: Cluster) -> None:
    cluster.warn(cluster.pods[7], SAID)
    cluster.api.calls.clear()
    assert set(await cluster.reasons()) == {""}
    assert cluster.api.calls == [], "a look asks nobody"
    assert await cluster.lists(1) == 1
    assert cluster.changed == [("default", "test")]
    cluster.api.calls.clear()
    assert (await cluster.reasons())[7] == f"FailedMount: {SAID}"
    assert cluster.api.calls == []


async def test_of_a_large_event_of_a_tenant_little_is_kept(cluster: Cluster) -> None:
    cluster.warn(cluster.pods[7], "x" * 2**20)
    await cluster.reasons()
    await cluster.lists(1)
    said = (await cluster.reasons())[7]
    assert said.startswith("FailedMount: xxx") and len(said) < 1100


async def test_a_look_at_256_pods_that_wait_takes_few_milliseconds(cluster: Cluster) -> None:
    await cluster.reasons()
    await cluster.lists(1)
    times = []
    for _ in range(5):
        started = time.thread_time()  # of the processor's time, whatever else the machine does
        await cluster.reasons()
        times.append(time.thread_time() - started)
    assert min(times) < 0.05


async def test_a_namespace_is_listed_ever_more_seldom_and_soon_after_something_new(cluster: Cluster) -> None:
    await cluster.reasons()
    assert await cluster.lists(600) <= 600 / LONGEST_SECONDS + 6
    cluster.now += LONGEST_SECONDS
    late = pod(GANG, 0, name="late", startTime=at(1), **container(waiting={"reason": "ContainerCreating"}))
    cluster.cache.put(PODS, cluster.api.put(late, PODS.path("default", "late")))
    await cluster.reasons()
    assert await cluster.lists(int(FIRST_SECONDS)) == 1


async def test_what_is_said_first_and_what_ends_are_told_to_the_run_once(cluster: Cluster) -> None:
    await cluster.reasons()
    await cluster.lists(10)
    assert cluster.changed == []
    cluster.warn(cluster.pods[0], "no volume", 5)
    await cluster.lists(200)
    assert cluster.changed == [("default", "test")]
    normal = {
        "metadata": {"name": "pulling", "namespace": "default", "managedFields": [{"time": at(9)}]},
        "involvedObject": {"uid": cluster.pods[0]["metadata"]["uid"]},
        "type": "Normal",
        "message": "Pulling image",
    }
    cluster.api.put(normal, EVENTS.path("default", "pulling"))
    await cluster.lists(200)
    assert len(cluster.changed) == 2
    assert set(await cluster.reasons()) == {""}


@pytest.mark.parametrize("status", [0, 403, 500])
async def test_events_that_cannot_be_had_keep_nothing_from_being_done(cluster: Cluster, status: int) -> None:
    cluster.api.refused["GET", "events"] = ApiError(status, "InternalError", "the store of events is down")
    assert set(await cluster.reasons()) == {""}
    assert 1 <= await cluster.lists(60) <= 60 / FIRST_SECONDS
    assert set(await cluster.reasons()) == {""}
    await cluster.platform.delete("gang")
    assert ("DELETE", "jobs/gang") in cluster.api.calls
    del cluster.api.refused["GET", "events"]
    cluster.warn(cluster.pods[7], SAID)
    await cluster.lists(int(LONGEST_SECONDS))
    assert (await cluster.reasons())[7] == f"FailedMount: {SAID}"


async def test_nothing_is_asked_of_a_run_that_is_gone_or_goes_on(cluster: Cluster) -> None:
    await cluster.reasons()
    cluster.cache.drop(RUNS, cluster.cache.all(RUNS)[0])
    assert await cluster.lists(600) == 0
