"""What the operator remembers of a cluster, and what is news to it."""

import json
import tracemalloc
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make import bombs, runs
from make.children import SUCCEED, server, tasks
from make.objects import Object, controller, pod, workload

from ixt_operator.adapters.kubernetes.cache import MOST_CONTAINERS, MOST_LABELS, Cache, run_uid, slim
from ixt_operator.adapters.kubernetes.client import DEPLOYMENTS, JOBS, PODS, RUNS, Listing, Resource
from ixt_operator.adapters.kubernetes.translate import Seen
from ixt_operator.controller.references import NotAccepted, run_of
from ixt_operator.planner.child import Child

ONE, TWO = tasks("one", SUCCEED), tasks("two", SUCCEED)
JUDGE = server("judge", "serve()")
UID = "uid-test"


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
    seen = cache.of_run("default", run_uid(job))
    assert [found["metadata"]["name"] for found in seen.jobs] == [job["metadata"]["name"]]
    assert "template" not in seen.jobs[0]["spec"]
    assert seen.pods[0]["spec"].keys() == {"nodeName", "containers"}
    assert all(container.keys() == {"resources"} for container in seen.pods[0]["spec"]["containers"])


def changed(manifest: Object, **metadata: object) -> Object:
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}


def names(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    return [manifest["metadata"]["name"] for manifest in manifests]


def of_run(*objects: tuple[Resource, Object]) -> Seen:
    """What a cache that was told these objects knows of the run."""
    cache = Cache()
    for resource, manifest in objects:
        cache.put(resource, manifest)
    return cache.of_run("default", UID)


def copies(child: Child) -> dict[str, Object]:
    """Pods that bear all labels of a child's pod, and are none."""
    real = pod(child)
    owner = real["metadata"]["ownerReferences"][0]
    other = {**owner, "name": "other", "uid": "uid-other"}
    changes: dict[str, dict[str, object]] = {
        "unowned": {"ownerReferences": []},
        "uncontrolled": {"ownerReferences": [{**owner, "controller": False}]},
        "of another owner": {"ownerReferences": [other]},
        "of another kind": {"ownerReferences": [{**owner, "kind": "DaemonSet"}]},
        "elsewhere": {"namespace": "elsewhere"},
    }
    return {
        what: changed(real, name="copy", uid=f"uid-{what}", **metadata) for what, metadata in changes.items()
    }


@pytest.mark.parametrize("child", [ONE, JUDGE], ids=["Job", "Deployment"])
def test_copies_of_a_pod_are_nobodys(child: Child) -> None:
    owner = (JOBS if child is ONE else DEPLOYMENTS, workload(child))
    for what, copy in copies(child).items():
        assert names(of_run(owner, (PODS, copy), (PODS, pod(child))).pods) == [f"{child.name}-0-x"], what


def test_a_pod_of_a_job_that_bore_its_name_before_is_another_ones() -> None:
    earlier = {**controller(ONE), "uid": "uid-earlier"}
    late = changed(pod(ONE), uid="uid-late", ownerReferences=[earlier])
    assert of_run((JOBS, workload(ONE)), (PODS, late)).pods == ()
    assert names(of_run((PODS, late)).pods) == ["one-0-x"], "it holds what it holds, though its Job is gone"


@pytest.mark.parametrize("child", [ONE, JUDGE], ids=["Job", "Deployment"])
def test_a_pod_whose_owner_is_gone_is_still_known(child: Child) -> None:
    assert len(of_run((PODS, pod(child))).pods) == 1


def test_a_job_of_another_namespace_is_not_of_the_run() -> None:
    assert of_run((JOBS, changed(workload(ONE), namespace="elsewhere"))).jobs == ()


def test_an_object_goes_whatever_its_labels_say_by_then() -> None:
    cache, job = Cache(), version(workload(ONE), 5)
    cache.put(JOBS, job)
    cache.drop(JOBS, changed(job, labels={}, resourceVersion="6"))
    assert cache.of_run("default", UID).jobs == ()
    assert cache.all(JOBS) == []


def test_what_is_newer_than_a_list_stays() -> None:
    cache = Cache()
    cache.put(JOBS, version(workload(ONE), 10))
    cache.put(JOBS, version(workload(TWO), 12))
    cache.replace(JOBS, Listing([], 11))
    assert names(cache.all(JOBS)) == ["two"]


def test_what_went_while_a_list_was_made_does_not_come_again() -> None:
    cache, job = Cache(), workload(ONE)
    cache.put(JOBS, version(job, 10))
    cache.renew()
    cache.drop(JOBS, version(job, 12))
    cache.replace(JOBS, Listing([version(job, 10)], 11))
    assert cache.all(JOBS) == []
    assert cache.put(JOBS, version(job, 13)), "but for one that only left the selection, and is back"


def test_what_a_list_lacked_is_not_brought_back_by_an_older_one() -> None:
    cache, job = Cache(), workload(ONE)
    cache.put(JOBS, version(job, 10))
    cache.replace(JOBS, Listing([], 12), "default", UID)
    cache.replace(JOBS, Listing([version(job, 10)], 11))
    assert cache.all(JOBS) == []


def test_what_went_is_remembered_for_a_while_only() -> None:
    cache, job = Cache(), workload(ONE)
    cache.drop(JOBS, version(job, 12))
    cache.renew()
    assert not cache.put(JOBS, version(job, 10))
    cache.renew()
    assert cache.put(JOBS, version(job, 10))


def test_a_list_of_a_namespace_tells_of_no_other() -> None:
    cache, there = Cache(), changed(workload(TWO), namespace="elsewhere")
    cache.put(JOBS, workload(ONE))
    cache.put(JOBS, there)
    cache.replace(JOBS, Listing([], 20), "default")
    assert cache.all(JOBS) == [slim(JOBS, there)]


def test_the_same_words_are_held_once() -> None:
    cache = Cache()
    for child in (ONE, TWO):
        cache.put(PODS, json.loads(json.dumps(pod(child))))
    one, two = (found["metadata"] for found in cache.all(PODS))
    assert one["labels"]["ixt.dev/run"] is two["labels"]["ixt.dev/run"]
    assert {id(name) for name in one["labels"]} == {id(name) for name in two["labels"]}


KINDS = {JOBS: ONE, DEPLOYMENTS: JUDGE}
STEP = st.tuples(
    st.sampled_from(["put", "drop", "list", "list late"]),
    st.sampled_from(list(KINDS)),
    st.sampled_from(["ixt.dev/run-uid", "other"]),
)


@given(st.lists(STEP, max_size=30))
def test_whatever_is_told_in_whatever_order_a_list_sets_it_right(steps: list[Any]) -> None:
    """Truth is what the last event said. A late list is one that was made before the last event."""
    cache, number = Cache(), 1
    truth: dict[Resource, Object] = {}
    for what, resource, label in steps:
        number += 1
        before = dict(truth)
        manifest = changed(
            version(workload(KINDS[resource]), number), labels={label: UID}, namespace="default"
        )
        if what == "put" or (what == "list late" and resource not in truth):
            truth[resource] = manifest
            cache.put(resource, manifest)
        elif what == "drop" or what == "list late":
            truth.pop(resource, None)
            cache.drop(resource, manifest)
        if what.startswith("list"):
            late = what == "list late"
            there = (before if late else truth).get(resource)
            cache.replace(resource, Listing([there] if there else [], number - late))
        for kind in KINDS:
            found = [each["metadata"]["resourceVersion"] for each in cache.all(kind)]
            assert found == ([truth[kind]["metadata"]["resourceVersion"]] if kind in truth else [])
        cache.of_run("default", UID)


def test_what_tenants_write_into_metadata_takes_no_memory() -> None:
    """500 Jobs, each with 250 kB of annotations, 1000 labels and as much in its template."""

    def hostile(number: int) -> Object:
        job = deepcopy(workload(ONE))
        name = f"{job['metadata']['name']}-{number}"
        job["metadata"] |= {
            "name": name,
            "uid": f"uid-{number}",
            "managedFields": [{"a": f"{number}" * 1000}],
        }
        job["metadata"]["annotations"] = {"evil": f"{number:04}" * 62_500}
        job["metadata"]["labels"] = job["metadata"]["labels"] | {
            f"evil-{each}": f"{number}" for each in range(1000)
        }
        job["spec"]["template"] = {"spec": {"evil": f"{number:04}" * 10_000}}
        return job

    cache = Cache()
    tracemalloc.start()
    try:
        for number in range(500):
            cache.put(JOBS, hostile(number))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache.of_run("default", run_uid(workload(ONE))).jobs) == 500
    assert held < 20 * 2**20


def test_of_a_run_is_kept_what_goes_onto_its_pods_and_what_people_ask_of_it() -> None:
    cache = Cache()
    labels = {"team.example.com/name": "nlp", **{f"label-{index}": "" for index in range(100)}}
    annotations = {
        "ixt.dev/keep-children": "true",
        "ixt.dev/take-over": "now",
        "kueue.x-k8s.io/podset-required-topology": "rack",
        "note": "n" * 100_000,
    }
    metadata = {"name": "a", "namespace": "default", "uid": "1", "resourceVersion": "1"}
    cache.put(RUNS, {"metadata": {**metadata, "labels": labels, "annotations": annotations}, "spec": {}})
    (run,) = cache.all(RUNS)
    assert run["metadata"]["labels"]["team.example.com/name"] == "nlp"
    assert len(run["metadata"]["labels"]) <= MOST_LABELS
    assert run["metadata"]["annotations"].keys() == annotations.keys() - {"note"}


def test_a_run_of_a_million_values_takes_no_memory_and_is_refused() -> None:
    """Its patches of pods are of any shape, for the API server: each of these runs would take 30 MiB."""
    cache = Cache()
    tracemalloc.start()
    try:
        for number in range(5):
            run = runs.manifest(pods={"all": {"spec": {"a": json.loads(bombs.wide(400_000))}}})
            run["metadata"] |= {"name": f"run-{number}", "uid": f"{number}", "resourceVersion": "1"}
            cache.put(RUNS, run)
            del run
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2**20
    for kept in cache.all(RUNS):
        assert slim(RUNS, kept) == kept
        with pytest.raises(NotAccepted, match=r"pods\.all\.spec: has more than 2,000 values"):
            run_of(kept)


def test_of_a_pod_of_many_containers_some_are_kept() -> None:
    """As many as are counted, with the ports of pods on their node's network, however often it is read."""
    containers = [{"name": f"c{number}", "ports": [{"containerPort": 1}]} for number in range(5000)]
    pod = {"metadata": {"name": "a", "uid": "1"}, "spec": {"hostNetwork": True, "containers": containers}}
    kept = slim(PODS, pod)
    assert len(kept["spec"]["containers"]) == MOST_CONTAINERS
    assert kept["spec"]["containers"][0]["ports"] == [{"containerPort": 1}]
    assert slim(PODS, kept) == kept
