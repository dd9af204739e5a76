"""Listings of everything there is, in one namespace or in all."""

import pytest
from make import runs
from make.api import Api
from make.children import SUCCEED, tasks
from make.objects import pod, workload

from ixt_operator.adapters.kubernetes.client import JOBS, PODS, RUNS, RUNTIMES, Object, Resource
from ixt_operator.controller.operator import OURS, Operator

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
