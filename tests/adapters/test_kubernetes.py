"""How a child's objects are made and deleted on a cluster, when some are there or on their way out."""

import asyncio
import json
import time
from functools import partial
from typing import Any

import pytest
from make import runs
from make.api import Api
from make.children import SUCCEED, server, tasks
from make.objects import NOW, Object, container, pod, workload

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import (
    CONFIG_MAPS,
    JOBS,
    NODES,
    PODS,
    SERVICES,
    ApiError,
    Resource,
)
from ixt_operator.adapters.kubernetes.explaining import Explainer
from ixt_operator.adapters.kubernetes.platform import KubernetesPlatform
from ixt_operator.adapters.kubernetes.translate import LINGER_SECONDS, STUCK_SECONDS
from ixt_operator.render.api_key import secret_name
from ixt_operator.render.render import render

ONE = tasks("one", SUCCEED, indexes=2, ports={"progress": 8080, "rendezvous": 29500})
"""Pods that find each other: with a ConfigMap, a Service and a Job."""
SECRETS = Resource("v1", "secrets")
PLACES = {resource: resource.path("default", "one") for resource in (CONFIG_MAPS, SERVICES, JOBS)}


class Cluster:
    """A run's platform, and the API server's double under it."""

    def __init__(self) -> None:
        self.api, self.cache = Api(), Cache()
        explainer = Explainer(self.api, self.cache, lambda *_: None)
        rendered = partial(render, runs.run(), runs.runtime())
        self.platform = KubernetesPlatform(self.api, self.cache, runs.run().metadata, {}, explainer, rendered)

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


async def test_the_key_of_a_runs_judges_is_drawn_once_and_lies_in_its_secret_alone(cluster: Cluster) -> None:
    judges = [server(name, "serve()", api_keys=("IXT_API_KEY",)) for name in ("judge", "another")]
    await cluster.platform.create(judges[0])
    (secret,) = (each for each in cluster.api.objects.values() if each["kind"] == "Secret")
    key = secret["stringData"]["apiKey"]
    assert len(key) >= 32 and secret["immutable"] and secret["metadata"]["ownerReferences"]
    await cluster.platform.create(judges[1])
    assert cluster.api.objects[SECRETS.path("default", secret["metadata"]["name"])] == secret
    others = [each for each in cluster.api.objects.values() if each != secret]
    assert key not in json.dumps(others)
    references = [
        entry["valueFrom"]["secretKeyRef"]
        for each in others
        if each["kind"] == "Deployment"
        for entry in each["spec"]["template"]["spec"]["containers"][0]["env"]
        if entry["name"] == "IXT_API_KEY"
    ]
    assert references == [{"name": secret["metadata"]["name"], "key": "apiKey"}] * 2
    assert ("GET", f"secrets/{secret['metadata']['name']}") not in cluster.api.calls, (
        "that would need a right"
    )


async def test_another_run_of_the_same_name_has_another_secret() -> None:
    run = runs.run()
    again = run.model_copy(update={"metadata": run.metadata.model_copy(update={"uid": "another"})})
    assert secret_name(run) != secret_name(again)


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


# Nodes that do not answer

UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
BUSY = {"key": "example.com/maintenance", "effect": "NoSchedule"}
PLACE = PODS.path("default", "one-0-x")


async def stopping(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, orphan: bool, **status: Any
) -> Object:
    """A pod whose grace was over long ago, with or without its Job, as cluster and cache have it."""
    monkeypatch.setattr(time, "time", lambda: NOW + 30 + STUCK_SECONDS)
    if not orphan:
        await cluster.platform.create(ONE)
    late = pod(ONE, deleted=30, **{"phase": "Running", **status})
    for job in cluster.cache.all(JOBS):
        late["metadata"]["ownerReferences"][0]["uid"] = job["metadata"]["uid"]
    found = cluster.api.put(late, PLACE)
    cluster.cache.put(PODS, found)
    cluster.api.calls.clear()
    return found


def have_node(cluster: Cluster, *taints: Object) -> None:
    cluster.api.put({"metadata": {"name": "node-1"}, "spec": {"taints": [*taints]}}, NODES.path("", "node-1"))


@pytest.mark.parametrize("orphan", [False, True])
@pytest.mark.parametrize("taint", [None, UNREACHABLE, OUT_OF_SERVICE], ids=["gone", "unreachable", "off"])
async def test_a_pod_of_a_lost_node_is_marked_or_removed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, taint: Object | None, orphan: bool
) -> None:
    await stopping(cluster, monkeypatch, orphan=orphan)
    if taint:
        have_node(cluster, taint)
    await cluster.platform.observe()
    if orphan:
        assert PLACE not in cluster.api.objects
    else:
        status = cluster.api.objects[PLACE]["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "NodeLost")
        assert "node node-1 does not answer" in status["message"]


@pytest.mark.parametrize("orphan", [False, True])
@pytest.mark.parametrize("taints", [(), (BUSY,)], ids=["fine", "tainted otherwise"])
async def test_a_pod_that_takes_long_to_stop_on_a_node_that_answers_is_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, taints: tuple[Object, ...], orphan: bool
) -> None:
    before = await stopping(cluster, monkeypatch, orphan=orphan)
    have_node(cluster, *taints)
    await cluster.platform.observe()
    assert cluster.api.objects[PLACE] == before
    assert cluster.platform.again() == STUCK_SECONDS, "it is looked for again: no watch tells of nodes"


async def test_a_node_that_may_not_be_read_counts_as_there(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = await stopping(cluster, monkeypatch, orphan=True)
    cluster.api.refused["GET", "nodes"] = ApiError(403, "Forbidden", "nodes is forbidden")
    assert (await cluster.platform.observe()).children["one"].deleting
    assert cluster.api.objects[PLACE] == before
    assert "node node-1: whether it is lost cannot be asked: nodes is forbidden" in caplog.text


@pytest.mark.parametrize("by_then", ["gone", "another", "ended"])
async def test_a_pod_that_is_another_than_the_cache_says_is_left_alone(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, by_then: str
) -> None:
    late = await stopping(cluster, monkeypatch, orphan=False)
    match by_then:
        case "gone":
            del cluster.api.objects[PLACE]
        case "another":
            alive = {name: value for name, value in late["metadata"].items() if name != "deletionTimestamp"}
            cluster.api.put({**late, "metadata": {**alive, "uid": "uid-of-another"}}, PLACE)
        case "ended":
            cluster.api.put({**late, "status": {"phase": "Succeeded"}}, PLACE)
    before = dict(cluster.api.objects)
    await cluster.platform.observe()
    assert cluster.api.objects == before
    assert {method for method, _ in cluster.api.calls} == {"GET"}


@pytest.mark.parametrize("orphan", [False, True])
async def test_a_pod_that_changes_while_its_node_is_asked_is_looked_at_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, orphan: bool
) -> None:
    late = await stopping(cluster, monkeypatch, orphan=orphan)
    answer = cluster.api.request

    async def request(method: str, path: str, *arguments: object, **options: object) -> Object:
        found = await answer(method, path, *arguments, **options)  # type: ignore[arg-type]
        if (method, path) == ("GET", PLACE) and cluster.api.objects[PLACE] == late:
            cluster.api.put({**late, "status": {"phase": "Running", "podIP": "10.0.0.7"}}, PLACE)
        return found

    cluster.api.request = request  # type: ignore[assignment, method-assign]
    await cluster.platform.observe()
    assert cluster.api.objects[PLACE]["status"]["podIP"] == "10.0.0.7"
    await cluster.platform.observe()
    assert PLACE not in cluster.api.objects or "NodeLost" in str(cluster.api.objects[PLACE])


@pytest.mark.parametrize("orphan", [False, True])
async def test_a_pod_that_cannot_be_given_up_delays_nothing_else(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, orphan: bool
) -> None:
    before = await stopping(cluster, monkeypatch, orphan=orphan)
    for method in ("PATCH", "DELETE"):
        cluster.api.refused[method, "pods"] = ApiError(403, "Forbidden", "a webhook refuses it")
    assert "one" in (await cluster.platform.observe()).children
    assert cluster.api.objects[PLACE] == before
    assert cluster.platform.again() == STUCK_SECONDS
    cluster.api.refused.clear()
    await cluster.platform.observe()
    assert cluster.api.objects.get(PLACE) != before


async def test_a_pod_of_which_nobody_answers_delays_a_look_for_seconds(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stopping(cluster, monkeypatch, orphan=False)
    monkeypatch.setattr("ixt_operator.adapters.kubernetes.platform.TEND_SECONDS", 0.05)
    answer = cluster.api.request

    async def request(method: str, path: str, *arguments: object, **options: object) -> Object:
        if method == "PATCH":
            await asyncio.Event().wait()
        return await answer(method, path, *arguments, **options)  # type: ignore[arg-type]

    cluster.api.request = request  # type: ignore[assignment, method-assign]
    assert "one" in (await cluster.platform.observe()).children


async def test_a_sidecar_that_does_not_end_is_ended_with_its_step(cluster: Cluster) -> None:
    await cluster.platform.create(ONE)
    (job,) = cluster.cache.all(JOBS)
    for index in range(2):
        ended = {"exitCode": 0, "reason": "Completed", "message": '{"outcome": "Committed"}'}
        running = pod(ONE, index, phase="Running", **container(terminated=ended))
        mesh = {"name": "mesh", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
        running["status"]["containerStatuses"].append(mesh)
        running["metadata"]["ownerReferences"][0]["uid"] = job["metadata"]["uid"]
        place = PODS.path("default", running["metadata"]["name"])
        cluster.cache.put(PODS, cluster.api.put(running, place))
    for _ in range(2):
        cluster.api.calls.clear()
        observed = await cluster.platform.observe()
        assert observed.children["one"].ended
    assert cluster.api.calls == [], "they are told once"
    deadlines = [
        each["spec"]["activeDeadlineSeconds"]
        for place, each in cluster.api.objects.items()
        if "/pods/" in place
    ]
    assert deadlines == [LINGER_SECONDS, LINGER_SECONDS]
