"""Places in Kueue's queues, where it tells them."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
from kubernetes.aio.client import ApiClient
from make.exposed import Cluster

from ixt_operator.adapters.kubernetes.client import JOBS, ApiError, Client, Object
from ixt_operator.controller.queues import Positions
from ixt_operator.render.names import QUEUE


class Kueue(Client):
    """Answers about queues by the version of the API and their place."""

    def __init__(self, **queues: list[Object]) -> None:
        super().__init__(cast(ApiClient, None))
        self.queues = queues
        self.version = "v1beta2"
        self.status = 404
        self.asked: list[str] = []

    async def request(
        self, method: str, path: str, body: Object | None = None, *, query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:  # fmt: skip
        assert method == "GET"
        self.asked.append(path)
        _, _, version, _, namespace, _, queue, _ = path.removeprefix("/apis").split("/")
        if version != self.version:
            raise ApiError(self.status, "NotFound", path)
        return {"items": self.queues[queue] if namespace == "default" else []}


@pytest.fixture
def cluster() -> Cluster:
    """Jobs that wait in two queues, and one that was let on."""
    found = Cluster()
    for name, queue, suspend in (
        ("a", "one", True),
        ("b", "one", True),
        ("c", "two", True),
        ("d", "one", False),
    ):
        job = found.attempt(name)
        labels = {**job["metadata"]["labels"], QUEUE: queue}
        metadata = {**job["metadata"], "labels": labels, "resourceVersion": "999"}
        found.cache.put(JOBS, {**job, "metadata": metadata, "spec": {"suspend": bool(suspend)}})
    return found


def pending(name: str, position: Any) -> Object:
    owner = {"kind": "Job", "name": name, "uid": f"uid-{name}"}
    return {"metadata": {"name": f"job-{name}", "ownerReferences": [owner]}, "positionInLocalQueue": position}


@pytest.mark.parametrize("version", ["v1beta2", "v1beta1"])
async def test_jobs_that_wait_have_their_places(cluster: Cluster, version: str) -> None:
    kueue = Kueue(one=[pending("b", 0), pending("else", 1), pending("a", 2), pending("d", 3)], two=[])
    kueue.version = version
    positions = Positions()
    await positions.ask(kueue, cluster.cache)
    assert positions == {"uid-b": 0, "uid-a": 2}
    kueue.queues["one"] = [pending("a", 0)]
    await positions.ask(kueue, cluster.cache)
    assert positions == {"uid-a": 0}
    assert len({path for path in kueue.asked if f"/{version}/" in path}) == 2


@pytest.mark.parametrize("status", [404, 403, 0, 503])
async def test_where_kueue_does_not_tell_there_are_none(cluster: Cluster, status: int) -> None:
    kueue = Kueue()
    kueue.version, kueue.status = "none", status
    positions = Positions({"uid-a": 3})
    await positions.ask(kueue, cluster.cache)
    assert positions == {}


async def test_without_queues_nobody_is_asked() -> None:
    kueue = Kueue()
    await Positions().ask(kueue, Cluster().cache)
    assert kueue.asked == []
