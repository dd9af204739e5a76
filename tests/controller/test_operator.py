"""What the leader sees: listings of everything there is, in one namespace or in all, and events."""

import asyncio
import time
from typing import Any

import pytest
from make import runs
from make.api import Api
from make.children import SUCCEED, tasks
from make.objects import pod, workload
from make.operator import eventually

from ixt_operator.adapters.kubernetes.client import JOBS, PODS, RUNS, RUNTIMES, ApiError, Object, Resource
from ixt_operator.controller import exporter
from ixt_operator.controller import operator as operator_module
from ixt_operator.controller.look import RunName
from ixt_operator.controller.operator import OURS, Operator
from ixt_operator.controller.queue import Behind, Retry
from ixt_operator.render.names import RUN

ONE = tasks("one", SUCCEED)


def placed(resource: Resource, manifest: Object, namespace: str = "default") -> tuple[str, Object]:
    metadata = {**manifest["metadata"], "uid": f"{namespace}-{resource.plural}", "namespace": namespace}
    if resource == RUNTIMES:
        del metadata["namespace"]
        namespace = ""
    return resource.path(namespace, metadata["name"]), {**manifest, "metadata": metadata}


@pytest.fixture
def api() -> Api:
    """Objects of every kind that is listed, in two namespaces."""
    found = Api()
    runtime = runs.runtime().model_dump(mode="json", by_alias=True, exclude_none=True)
    for namespace in ("default", "other"):
        for resource, manifest in (
            (RUNTIMES, runtime), (RUNS, runs.manifest()), (JOBS, workload(ONE)), (PODS, pod(ONE))
        ):  # fmt: skip
            path, there = placed(resource, manifest, namespace)
            found.put(there, path)
    return found


def known(operator: Operator) -> dict[str, list[str]]:
    """Namespaces of what is known, by kind."""
    return {
        resource.plural: sorted(
            each["metadata"].get("namespace", "") for each in operator.cache.all(resource)
        )
        for resource in (RUNTIMES, RUNS, JOBS, PODS)
    }


SPACES = {(): ["default", "other"], ("other",): ["other"], ("default", "other"): ["default", "other"]}


@pytest.mark.parametrize("namespaces", SPACES)
async def test_what_comes_and_goes_unseen_is_found_out(api: Api, namespaces: tuple[str, ...]) -> None:
    operator, spaces = Operator(api, namespaces, 600), SPACES[namespaces]
    for _ in range(2):
        await operator.resync()
        assert known(operator) == {
            "ixtruntimes": [""], "ixtruns": spaces, "jobs": spaces, "pods": spaces
        }  # fmt: skip
    assert len(operator.queue) == len(spaces)
    before = api.objects
    api.objects = {}
    await operator.resync()
    assert known(operator) == {"ixtruntimes": [], "ixtruns": [], "jobs": [], "pods": []}
    for path, manifest in before.items():
        api.put(manifest, path)
    await operator.resync()
    assert known(operator)["pods"] == spaces


async def test_what_is_nobody_of_ours_is_not_listed(api: Api) -> None:
    name, _, value = OURS.partition("=")
    for path, manifest in api.objects.items():
        if manifest["metadata"].get("labels", {}).get(name) == value:
            del api.objects[path]["metadata"]["labels"][name]
    operator = Operator(api, (), 600)
    await operator.resync()
    assert known(operator)["pods"] == []
    assert known(operator)["ixtruns"] == ["default", "other"]


@pytest.mark.parametrize(("resource", "order"), [(RUNS, "aba"), (JOBS, "ab")])
async def test_a_run_that_waits_behind_others_comes_by_an_event_of_its_own_alone(
    resource: Resource, order: str
) -> None:
    """One of its Job's says only that it has begun. Another run is looked at all the time."""
    operator, looks = Operator(Api(), (), 600), list[str]()
    handlers = {h.fn.__name__: h.fn for h in operator.registry()._watching.get_all_handlers()}
    metadata = {"uid": "1", "name": "a", "namespace": "default", "resourceVersion": "7", "labels": {RUN: "a"}}
    event: dict[str, Any] = {"type": "MODIFIED", "object": {"metadata": metadata, "spec": {}}}

    async def look(key: RunName) -> Behind | None:
        looks.append(key.name)
        if looks == ["a"]:
            return Behind()
        if key.name == "b":
            await handlers[f"take_{resource.plural}"](event=event)
            for _ in range(10):
                await asyncio.sleep(0)
            assert "".join(looks) == order
            done.set()
            await asyncio.sleep(60)
        return None

    done = asyncio.Event()
    for name in "ab":
        operator.queue.add(RunName("default", name))
    workers = [asyncio.create_task(operator.queue.work(look)) for _ in range(2)]
    async with asyncio.timeout(10):
        await done.wait()
    for worker in workers:
        worker.cancel()


# Namespaces that cannot be served

FORBIDDEN = ApiError(403, "Forbidden", "jobs is forbidden")


class Fenced(Api):
    """Its namespace `other` is forbidden, as long as it is."""

    forbidden = True

    async def request(self, method: str, path: str, *arguments: Any, **options: Any) -> Object:
        if self.forbidden and "/namespaces/other/jobs" in path:
            raise FORBIDDEN
        return await super().request(method, path, *arguments, **options)


def unserved() -> float | None:
    return exporter.registry.get_sample_value("ixt_operator_namespace_unserved", {"namespace": "other"})


async def test_a_namespace_that_is_forbidden_keeps_no_other_from_its_work(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    fenced = Fenced()
    fenced.objects = api.objects
    operator = Operator(fenced, ("other", "default"), 600)
    for _ in range(2):
        await operator.first_sync()
    assert known(operator)["pods"] == ["default"]
    assert (unserved(), len(operator.queue)) == (1.0, 1)
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "namespace other cannot be served" in warning
    assert operator.in_sync, "one namespace's trouble is its own"
    # What its watch tells is a part of what there is: nothing is done about it.
    calls = len(fenced.calls)
    assert await operator.look(RunName("other", "test")) is None
    assert len(fenced.calls) == calls
    fenced.forbidden = False
    await operator.resync_namespace("other")
    assert known(operator)["ixtruns"] == ["default", "other"]
    assert (unserved(), len(operator.queue)) == (None, 2)


@pytest.mark.parametrize("told_by", ["watch", "look"])
@pytest.mark.parametrize("lost", ["all rights", "that to write"])
async def test_a_namespace_that_loses_its_rights_is_told_at_once_and_heals(
    api: Api, monkeypatch: pytest.MonkeyPatch, told_by: str, lost: str
) -> None:
    """Everything is listed once in ten minutes only."""
    fenced = Fenced()
    fenced.objects, fenced.forbidden = api.objects, False
    monkeypatch.setattr(operator_module, "UNSERVED_SECONDS", 0.01)
    operator = Operator(fenced, ("other", "default"), 600)
    await operator.resync()
    fenced.forbidden, fenced.forbids_writes = lost == "all rights", lost == "that to write"
    for method in ("POST", "PUT"):
        fenced.refused[method, "ixtruns"] = fenced.refused[method, "configmaps"] = FORBIDDEN
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        keeping = group.create_task(operator.keep_in_sync())
        if told_by == "watch":
            operator.suspect("other")
        else:
            with pytest.raises(Retry):
                await operator.look(RunName("other", "test"))
        await eventually(unserved, lambda found: found == 1.0)
        fenced.forbidden = fenced.forbids_writes = False
        await eventually(unserved, lambda found: found is None)
        assert not keeping.done()
        keeping.cancel()


async def test_where_all_namespaces_are_served_none_may_be_left_out(api: Api) -> None:
    api.refused["GET", "jobs"] = FORBIDDEN
    operator = Operator(api, (), 600)
    with pytest.raises(ApiError):
        await operator.resync()
    assert not operator.in_sync


async def test_who_has_not_listed_everything_for_long_is_not_in_sync(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = Operator(api, (), 600)
    assert not operator.in_sync
    await operator.resync()
    assert operator.in_sync
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
    assert not operator.in_sync
