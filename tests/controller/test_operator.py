"""What the leader sees: listings of everything there is, in one namespace or in all, and events."""

import asyncio
from typing import Any

import pytest
from make import runs
from make.api import Api
from make.children import SUCCEED, tasks
from make.objects import pod, workload

from ixt_operator.adapters.kubernetes.client import JOBS, PODS, RUNS, RUNTIMES, Object, Resource
from ixt_operator.controller.look import RunName
from ixt_operator.controller.operator import OURS, Operator
from ixt_operator.controller.queue import Behind
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
