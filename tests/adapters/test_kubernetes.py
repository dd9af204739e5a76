"""How a child's objects are made and deleted on a cluster, when some are there or on their way out."""

import pytest
from make import runs
from make.api import Api
from make.children import SUCCEED, tasks
from make.objects import Object, workload

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, JOBS, PODS, SERVICES, ApiError, Resource
from ixt_operator.adapters.kubernetes.platform import KubernetesPlatform
from ixt_operator.render.render import render

ONE = tasks("one", SUCCEED, indexes=2, ports={"progress": 8080, "rendezvous": 29500})
"""Pods that find each other: with a ConfigMap, a Service and a Job."""
PLACES = {resource: resource.path("default", "one") for resource in (CONFIG_MAPS, SERVICES, JOBS)}


class Cluster:
    """A run's platform, and the API server's double under it."""

    def __init__(self) -> None:
        self.api, self.cache = Api(), Cache()
        self.platform = KubernetesPlatform(self.api, self.cache, runs.run(), runs.runtime(), {})

    def have(self, resource: Resource, **metadata: object) -> Object:
        """An object of the child as the operator makes it."""
        manifests = {manifest["kind"]: manifest for manifest in render(runs.run(), runs.runtime(), ONE)}
        kind = {CONFIG_MAPS: "ConfigMap", SERVICES: "Service", JOBS: "Job"}[resource]
        manifest = manifests[kind]
        return self.api.put({**manifest, "metadata": {**manifest["metadata"], **metadata}}, PLACES[resource])


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_a_child_is_made_once(cluster: Cluster) -> None:
    await cluster.platform.create(ONE)
    made = dict(cluster.api.objects)
    assert made.keys() == set(PLACES.values())
    await cluster.platform.create(ONE)
    assert cluster.api.objects[PLACES[JOBS]] == made[PLACES[JOBS]]
    assert cluster.api.objects[PLACES[CONFIG_MAPS]] == made[PLACES[CONFIG_MAPS]]


@pytest.mark.parametrize("resource", [CONFIG_MAPS, SERVICES], ids=lambda resource: resource.plural)
async def test_what_is_on_its_way_out_is_not_there(cluster: Cluster, resource: Resource) -> None:
    """Its data may be the right ones: pods that come later lack it all the same."""
    cluster.have(resource, deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["a/b"])
    with pytest.raises(ApiError, match="one is being deleted") as error:
        await cluster.platform.create(ONE)
    assert not error.value.refused, "it is tried again"
    assert PLACES[JOBS] not in cluster.api.objects
    del cluster.api.objects[PLACES[resource]]
    await cluster.platform.create(ONE)
    assert cluster.api.objects.keys() == set(PLACES.values())


async def test_a_config_map_that_a_crash_left_is_replaced_without_waiting(cluster: Cluster) -> None:
    left = cluster.have(CONFIG_MAPS)
    cluster.api.put({**left, "data": {"task.json": "{}"}}, PLACES[CONFIG_MAPS])
    await cluster.platform.create(ONE)
    assert cluster.api.objects[PLACES[CONFIG_MAPS]]["data"] == left["data"]
    assert cluster.api.objects.keys() == set(PLACES.values())


async def test_what_owns_nothing_goes_at_once_and_a_job_after_its_pods(cluster: Cluster) -> None:
    await cluster.platform.create(ONE)
    await cluster.platform.delete("one")
    assert cluster.api.objects.keys() == {PLACES[JOBS]}
    assert (await cluster.platform.observe()).children["one"].deleting


async def test_a_job_whose_end_was_told_before_the_answer_to_its_delete_stays_gone(cluster: Cluster) -> None:
    await cluster.platform.create(ONE)
    (job,) = cluster.cache.all(JOBS)
    answer = cluster.api.request

    async def request(method: str, path: str, *arguments: object, **options: object) -> Object:
        found = await answer(method, path, *arguments, **options)  # type: ignore[arg-type]
        if (method, path) == ("DELETE", PLACES[JOBS]):
            cluster.cache.drop(JOBS, found)
        return found

    cluster.api.request = request  # type: ignore[assignment, method-assign]
    await cluster.platform.delete("one")
    assert cluster.cache.all(JOBS) == []
    assert job["metadata"]["name"] == "one"


async def test_a_stray_copy_of_a_pod_is_not_listed_as_the_runs(cluster: Cluster) -> None:
    await cluster.platform.create(ONE)
    template = workload(ONE)["spec"]["template"]["metadata"]
    copy = {"metadata": {**template, "name": "copy", "namespace": "default"}, "status": {"phase": "Running"}}
    cluster.api.put(copy, PODS.path("default", "copy"))
    observed = await cluster.platform.observe(live=True)
    assert [process.where for process in observed.children["one"].processes] == ["", ""]
