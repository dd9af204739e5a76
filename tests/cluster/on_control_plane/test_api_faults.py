"""Requests of the operator that fail, each the first time that it is made: the run ends as if none had."""

import asyncio
import random
from collections.abc import Callable

import pytest
from aiohttp import web
from cluster.control_plane import ControlPlane
from cluster.on_control_plane.operating import Field, condition, jobs_made, left_behind
from make import cli
from make.operator import eventually
from make.proxy import Call, Proxy, failure

ANSWERS: dict[str, Callable[[], web.Response]] = {
    "409": lambda: failure(409, "Conflict"),
    "410": lambda: failure(410, "Expired"),
    "422": lambda: failure(422, "Invalid"),
    "429": lambda: failure(429, "TooManyRequests", **{"Retry-After": "1"}),
    "500": lambda: failure(500, "InternalError"),
    "503": lambda: failure(503, "ServiceUnavailable"),
}


class Faults:
    """Fails every second request, more or less, the first time that it is made; one hangs."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seen: set[tuple[str, str]] = set()
        self.told: list[str] = []

    async def __call__(self, call: Call) -> web.StreamResponse | None:
        request = call.method, call.path.partition("?")[0]
        if call.is_watch or "/leases" in call.path or "/namespaces/" not in call.path:
            return None  # kopf's, and the elector's: test_lease
        if request in self.seen:
            return None
        self.seen.add(request)
        if self.chance.random() < 0.5:
            return None
        fault = self.chance.choice([*ANSWERS, "reset"])
        if len(self.told) == 8:
            fault = "hang"
        self.told.append(fault)
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "reset":
            call.reset()
            return web.Response()
        return ANSWERS[fault]()


@pytest.mark.parametrize("seed", [1, 2])
async def test_each_request_may_fail_the_first_time(field: Field, proxy: Proxy, seed: int) -> None:
    faults = proxy.handler = Faults(seed)
    async with field.operator(kubeconfig=proxy.kubeconfig):
        name = field.apply()
        await field.until_phase(name, "Complete", seconds=120)
    assert len(faults.told) > 8, "one of them hung"
    jobs = await jobs_made(field, name)
    assert {*jobs.values()} == {1}
    assert {attempt for _, attempt in jobs} == {"0"}
    assert await left_behind(field, name) == []


async def test_watches_that_tell_nothing_are_made_good_by_a_listing(field: Field, proxy: Proxy) -> None:
    async def silent(call: Call) -> web.StreamResponse | None:
        if call.is_watch:
            await asyncio.sleep(3600)
        return None

    proxy.handler = silent
    async with field.operator("--resync-seconds=1", kubeconfig=proxy.kubeconfig):
        name = field.apply(**cli.PLAIN)
        await field.until_phase(name, "Complete")
    assert {*(await jobs_made(field, name)).values()} == {1}


async def test_two_that_lead_at_once_make_nothing_twice(field: Field) -> None:
    async with field.operator() as first, field.operator("--lease-name=another", replica=1) as second:
        await eventually(lambda: first.leads() and second.leads())
        name = field.apply()
        status = await field.until_phase(name, "Complete")
        jobs = await jobs_made(field, name)
        assert {*jobs.values()} == {1}
        assert {attempt for _, attempt in jobs} == {"0"}
        assert await left_behind(field, name) == []
    assert condition(status, "Complete")["reason"] == "RunComplete"


async def test_the_api_server_goes_and_comes_back(field: Field, cluster: ControlPlane) -> None:
    go_on = field.folder / "go-on"
    field.misbehave({"pretrain/train/plain-s0": {"*": {"wait_for": str(go_on)}}})
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        await eventually(lambda: any("-train-" in pod for pod in field.kubelet.started))
        cluster.stop("kube-apiserver")
        go_on.touch()
        cluster.start("kube-apiserver")
        cluster.until(lambda: cluster.answers("/readyz"), "API server")
        await field.until_phase(name, "Complete")
    assert {*(await jobs_made(field, name)).values()} == {1}
