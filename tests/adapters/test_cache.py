"""What the operator remembers of a cluster, and what is news to it."""

from make import runs
from make.children import SUCCEED, tasks
from make.objects import Object, pod, workload

from ixt_operator.adapters.kubernetes.cache import Cache, run_uid
from ixt_operator.adapters.kubernetes.client import JOBS, PODS, RUNS

ONE = tasks("one", SUCCEED)


def version(manifest: Object, number: int, **fields: object) -> Object:
    """An object in another version."""
    return {**manifest, **fields, "metadata": {**manifest["metadata"], "resourceVersion": str(number)}}


def test_an_echo_and_an_older_version_are_no_news() -> None:
    cache, job = Cache(), workload(ONE)
    assert cache.put(JOBS, version(job, 9, status={"active": 1}))
    assert not cache.put(JOBS, version(job, 9, status={"active": 1}))
    assert not cache.put(JOBS, version(job, 8))
    assert cache.all(JOBS)[0]["status"] == {"active": 1}
    assert cache.put(JOBS, version(job, 10, status={"succeeded": 1}))
    assert cache.all(JOBS)[0]["status"] == {"succeeded": 1}


def test_what_went_and_came_again_is_news() -> None:
    cache, job = Cache(), workload(ONE)
    cache.put(JOBS, version(job, 9))
    cache.drop(JOBS, job)
    assert cache.all(JOBS) == []
    assert cache.put(JOBS, version(job, 9))


def test_a_run_is_kept_as_it_is() -> None:
    cache, manifest = Cache(), version(runs.manifest(), 3, status={"phase": "Pending"})
    cache.put(RUNS, version({**manifest, "metadata": {**manifest["metadata"], "managedFields": [{}]}}, 3))
    assert cache.get(RUNS, "default", "test") == manifest


def test_children_are_found_by_their_run_without_their_templates() -> None:
    cache, job = Cache(), workload(ONE)
    cache.put(JOBS, job)
    cache.put(PODS, pod(ONE))
    seen = cache.of_run(run_uid(job))
    assert [found["metadata"]["name"] for found in seen.jobs] == [job["metadata"]["name"]]
    assert "template" not in seen.jobs[0]["spec"]
    assert seen.pods[0]["spec"] == {"nodeName": "node-1"}
