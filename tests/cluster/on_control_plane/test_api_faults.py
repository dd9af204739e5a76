"""Requests of the operator that fail: each kind by each fault, and runs end as if none had."""

import asyncio
import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from cluster.control_plane import ControlPlane
from cluster.on_control_plane.operating import (
    Field,
    as_if_undisturbed,
    children,
    committed,
    condition,
    jobs_ever,
    jobs_made,
    step,
)
from make import cli
from make.operator import eventually
from make.proxy import Call, Proxy, failure

from ixt_operator.adapters.kubernetes.client import RUNS

ANNOTATE = "pretrain/annotate/0-15"
TRAIN = "pretrain/train/plain-s0"

ANSWERS: dict[str, Callable[[], web.Response]] = {
    "409": lambda: failure(409, "Conflict"),
    "410": lambda: failure(410, "Expired"),
    "422": lambda: failure(422, "Invalid"),
    "429": lambda: failure(429, "TooManyRequests", **{"Retry-After": "1"}),
    "500": lambda: failure(500, "InternalError"),
    "503": lambda: failure(503, "ServiceUnavailable"),
}
FAULTS = [*ANSWERS, "hang", "reset", "lost"]
"""`lost`: the request is carried out, and its answer never comes."""

REQUEST_SECONDS = "--request-seconds=2"

KINDS = {
    "GET deployments",
    "GET jobs",
    "GET pods",
    "GET configmaps/NAME",
    "GET services/NAME",
    "POST configmaps",
    "POST jobs",
    "POST deployments",
    "POST events",
    "PATCH services/NAME",
    "PUT ixtruns/NAME/status",
    "DELETE configmaps/NAME",
    "DELETE deployments/NAME",
    "DELETE services/NAME",
}
"""Kinds of requests that a run makes."""

RUNS_BY_FAULT: dict[str, tuple[str, set[str]]] = {
    **{f"by-{fault}": (fault, KINDS) for fault in FAULTS if fault != "hang"},
    **{f"by-hang-{part}": ("hang", {*sorted(KINDS)[part::4]}) for part in range(4)},
}
"""By a run's name the fault that it meets, and the kinds of requests that meet it; to hang takes time."""


async def failed(call: Call, fault: str) -> web.StreamResponse | None:
    """What a fault makes of a call."""
    if fault in ANSWERS:
        return ANSWERS[fault]()
    if fault == "hang":
        await asyncio.sleep(3600)
    call.reset()
    return None if fault == "lost" else web.Response()


def kind(call: Call) -> str:
    """Method and resource of a call."""
    _, _, path = call.path.partition("?")[0].rpartition("/v1")
    parts = path.removeprefix("alpha1").strip("/").split("/")
    parts = parts[2:] if parts[0] == "namespaces" and len(parts) > 2 else parts
    return "/".join([f"{call.method} {parts[0]}", *("NAME" for _ in parts[1:2]), *parts[2:]])


async def names(field: Field) -> dict[str, str]:
    """Names of all runs by uid."""
    found = await field.client.list(RUNS, field.kubectl.namespace)
    return {run["metadata"]["uid"]: run["metadata"]["name"] for run in found}


def run_of(call: Call, runs: dict[str, str]) -> str:
    """The one of some runs, names by uid, for which a call is made; empty for the operator's own."""
    if found := re.search(r"run-uid(?:=|%3D)([-0-9a-f]+)", call.path):
        return runs.get(found[1], "")
    body = json.loads(call.body or b"{}")
    name = body.get("involvedObject", body.get("metadata", {})).get("name", "")
    said = {name, *call.path.partition("?")[0].split("/")}
    return next((run for run in runs.values() if any(f"{word}-".startswith(f"{run}-") for word in said)), "")


@pytest.mark.timeout(600)
async def test_each_kind_of_request_may_meet_each_fault(field: Field, proxy: Proxy) -> None:
    for name in RUNS_BY_FAULT:
        field.apply(name=name, storage={"uri": f"pvc://claim/{name}"})
    runs = await names(field)
    left = {name: set(kinds) for name, (_, kinds) in RUNS_BY_FAULT.items()}

    async def handler(call: Call) -> web.StreamResponse | None:
        """Each run meets its fault whenever it makes a kind of request for the first time."""
        run = run_of(call, runs)
        if call.is_watch or not run or kind(call) not in left[run]:
            return None
        left[run].remove(kind(call))
        return await failed(call, RUNS_BY_FAULT[run][0])

    proxy.handler = handler
    async with field.operator(REQUEST_SECONDS, kubeconfig=proxy.kubeconfig):
        for name in RUNS_BY_FAULT:
            await field.until_phase(name, "Complete", seconds=500)
    for name, kinds in left.items():
        assert kinds == set(), name
        await as_if_undisturbed(field, name)


LIFE_KINDS = {"PATCH deployments/NAME", "DELETE jobs/NAME", "GET ixtruns/NAME", "DELETE ixtruns/NAME"}
"""Kinds of requests that a run makes when its judges become more, it is suspended, changed and expires."""

STATUS = "PUT ixtruns/NAME/status"


def at_rest(status: dict[str, Any]) -> bool:
    return condition(status, "Suspended").get("status") == "True"


@pytest.mark.timeout(600)
async def test_each_kind_of_request_of_an_eventful_life_may_meet_each_fault(
    field: Field, proxy: Proxy
) -> None:
    """A conflict when the status is first written makes the operator read the run anew."""
    faults = {f"by-{fault}": fault for fault in FAULTS}
    field.hold(ANNOTATE)
    for name in faults:
        field.apply(name=name, storage={"uri": f"pvc://claim/{name}"}, ttlSecondsAfterFinished=0)
    runs = await names(field)
    left = {name: {STATUS, *LIFE_KINDS} for name in faults}

    async def handler(call: Call) -> web.StreamResponse | None:
        run = run_of(call, runs)
        if call.is_watch or not run or kind(call) not in left[run]:
            return None
        left[run].remove(kind(call))
        return await failed(call, "409" if kind(call) == STATUS else faults[run])

    proxy.handler = handler
    async with field.operator(REQUEST_SECONDS, kubeconfig=proxy.kubeconfig):
        for name in faults:
            await field.running(name, ANNOTATE)
            field.edit(name, judge={"model": "file:///judge", "engine": {"maxReplicas": 2}})
        for name in faults:
            await eventually(lambda name=name: "PATCH deployments/NAME" not in left[name])
            field.edit(name, suspend=True)
        for name in faults:
            # Its phase says that it is to be, the condition that it is: all has been deleted.
            await field.until(name, at_rest, seconds=300)
        field.go_on()
        for name in faults:
            field.edit(name, suspend=False)
        await eventually(
            lambda: field.client.list(RUNS, field.kubectl.namespace), lambda found: found == [], seconds=400
        )
        for name in faults:
            await eventually(lambda name=name: children(field, name), lambda found: found == {})
    assert not any(left.values()), left
    assert set(committed(field).values()) == {len(faults)}
    assert set(jobs_ever(field).values()) == {1}


@pytest.mark.timeout(600)
async def test_each_request_about_a_lost_node_may_meet_each_fault(field: Field, proxy: Proxy) -> None:
    """A run whose pods are on it is tried again elsewhere, one that is suspended frees what it holds."""
    bad = field.kubelet.nodes[0]
    faults = {f"{what}-by-{fault}": fault for what in ("lost", "gone") for fault in FAULTS}
    kinds = {"lost": "PATCH pods/NAME/status", "gone": "DELETE pods/NAME"}
    field.misbehave({TRAIN: {"1": {"hang": True}}})
    for name in faults:
        field.apply(**cli.PLAIN, name=name, storage={"uri": f"pvc://claim/{name}"})
    runs = await names(field)
    left = {name: kinds[name.partition("-")[0]] for name in faults}

    async def handler(call: Call) -> web.StreamResponse | None:
        run = run_of(call, runs)
        if not run or kind(call) != left.get(run):
            return None
        del left[run]
        return await failed(call, faults[run])

    proxy.handler = handler
    async with field.operator(REQUEST_SECONDS, kubeconfig=proxy.kubeconfig):
        pods = [await field.running(name, TRAIN) for name in faults]
        field.lose(bad)
        for pod in pods:
            field.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", "--grace-period=1")
        for name in faults:
            if name.startswith("gone"):
                field.edit(name, suspend=True)
        for name in faults:
            if name.startswith("gone"):
                await field.until_phase(name, "Suspended")
                await eventually(lambda name=name: name not in left, seconds=200)
                field.edit(name, suspend=False)
        for name in faults:
            status = await field.until_phase(name, "Complete", seconds=300)
            losses = {"Infrastructure": 1} if name.startswith("lost") else {}
            assert step(status).get("attemptsByFault", {}) == losses, name
    assert left == {}
    assert set(committed(field).values()) == {len(faults)}


async def test_each_list_of_everything_may_fail_at_the_start_and_later(field: Field, proxy: Proxy) -> None:
    faults = itertools.cycle(["409", "410", "429", "500", "reset", "hang", "503", "lost"])
    left, later = set(LISTED), False

    async def handler(call: Call) -> web.StreamResponse | None:
        method, _, resource = kind(call).partition(" ")
        if method != "GET" or call.is_watch or "run-uid" in call.path or resource not in left:
            return None
        if later and "limit=" not in call.path:  # kopf's, after a watch that ended
            return None
        left.remove(resource)
        return await failed(call, next(faults))

    proxy.handler = handler
    field.hold(TRAIN)
    async with field.operator(REQUEST_SECONDS, "--resync-seconds=1", kubeconfig=proxy.kubeconfig):
        name = field.apply(**cli.PLAIN)
        await field.running(name, TRAIN)
        assert left == set()
        left, later = set(LISTED), True
        await eventually(lambda: left == set())
        field.go_on()
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)


LISTED = {"ixtruntimes", "ixtruns", "jobs", "deployments", "pods"}


async def test_two_that_lead_at_once_make_nothing_twice(field: Field) -> None:
    async with field.operator() as first, field.operator("--lease-name=another", replica=1) as second:
        await eventually(lambda: first.leads() and second.leads())
        name = field.apply()
        status = await field.until_phase(name, "Complete")
        await as_if_undisturbed(field, name)
    assert condition(status, "Complete")["reason"] == "RunComplete"


async def test_the_api_server_goes_and_comes_back(field: Field, cluster: ControlPlane) -> None:
    field.hold(TRAIN)
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        await field.running(name, TRAIN)
        cluster.stop("kube-apiserver")
        field.go_on()
        cluster.start("kube-apiserver")
        cluster.until(lambda: cluster.answers("/readyz"), "API server")
        await field.until_phase(name, "Complete")
    assert {*(await jobs_made(field, name)).values()} == {1}
