"""Leader election: one writer at a time, whatever happens to it, its network or its clock."""

import asyncio
import json
import signal
from pathlib import Path

import pytest
from aiohttp import web
from cluster.control_plane import ControlPlane
from cluster.on_control_plane.operating import Field, as_if_undisturbed
from make import cli, runs
from make.operator import connected, eventually
from make.proxy import Call, Proxy, failure, proxied

from ixt_operator.adapters.kubernetes.client import JOBS, LEASES, RUNS
from ixt_operator.adapters.kubernetes.lease import Elector, LostLease, Times

TIMES = Times()


class Clock:
    """A monotonic clock that only a test moves."""

    def __init__(self) -> None:
        self.moved = 0.0

    def __call__(self) -> float:
        return self.moved


def elector(field: Field, name: str, clock: Clock | None = None) -> Elector:
    return Elector(field.client, field.kubectl.namespace, "lease", name, clock=clock or Clock())


async def holder(field: Field) -> str:
    lease = await field.client.get(LEASES, field.kubectl.namespace, "lease")
    return str(lease["spec"]["holderIdentity"]) if lease else ""


def test_a_leader_that_is_gone_is_followed_within_half_a_minute() -> None:
    """The last renewal may just have been seen, the look that finds it too old comes a period later, and the
    request that takes over may need all of its time."""
    assert TIMES.lease_duration + TIMES.retry_period + TIMES.request < 30


async def test_one_leads_and_the_next_one_takes_over_at_once_when_it_is_released(field: Field) -> None:
    first, second = elector(field, "first"), elector(field, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await eventually(lambda: second.holder_seen == "first")
    assert (first.leading, second.leading, await holder(field)) == (True, False, "first")
    await first.release()
    assert not first.leading
    await asyncio.wait_for(waiting, 60)
    assert await holder(field) == "second"
    with pytest.raises(LostLease):
        first.fence()


async def test_a_holder_that_is_gone_is_followed_when_its_time_is_over_and_no_earlier(field: Field) -> None:
    first, clock = elector(field, "first"), Clock()
    await first.acquire()
    second = elector(field, "second", clock)
    assert not await second._try()
    clock.moved = TIMES.lease_duration - 5
    assert not await second._try()
    clock.moved = TIMES.lease_duration + 1
    await second.acquire()
    assert await holder(field) == "second"
    with pytest.raises(LostLease, match="second took the Lease"):
        await first.keep()


async def test_a_holder_whose_clock_jumped_writes_nothing_more(field: Field) -> None:
    clock = Clock()
    first = elector(field, "first", clock)
    await first.acquire()
    first.fence()
    clock.moved = TIMES.renew_deadline
    with pytest.raises(LostLease):
        first.fence()
    with pytest.raises(LostLease):
        await first.keep()


async def test_of_many_that_start_at_once_one_leads(field: Field) -> None:
    electors = [elector(field, f"e{number}") for number in range(8)]
    waiting = [asyncio.create_task(each.acquire()) for each in electors]
    await eventually(lambda: all(each.leading or each.holder_seen for each in electors))
    (leader,) = [each for each in electors if each.leading]
    await eventually(lambda: holder(field), lambda name: name == leader.identity)
    for each in electors:
        if each is not leader:
            assert not await each._try()
    for task in waiting:
        task.cancel()


@pytest.mark.parametrize("trouble", ["409", "429", "500", "503", "reset", "hang"])
async def test_a_short_trouble_loses_no_lease_and_a_long_one_does(
    field: Field, cluster: ControlPlane, tmp_path: Path, trouble: str
) -> None:
    down, calls = False, 0
    up = asyncio.Event()

    async def handler(call: Call) -> web.StreamResponse | None:
        nonlocal calls
        if not down:
            return None
        calls += 1
        if trouble == "hang":
            await up.wait()
            return None
        if trouble == "reset":
            call.reset()
            return web.Response()
        return failure(int(trouble), "Trouble", **{"Retry-After": "1"})

    clock = Clock()
    async with proxied(cluster.server, cluster.pki, tmp_path) as proxy, connected(proxy.kubeconfig) as client:
        proxy.handler = handler
        first = Elector(client, field.kubectl.namespace, "lease", "first", clock=clock)
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        down = True
        await eventually(lambda: calls >= 2)
        down = False
        up.set()
        await eventually(lambda: proxy.calls[-1][0] == "PUT")
        await eventually(lambda: first.leading)
        assert not keeping.done()
        up.clear()
        down, calls = True, 0
        await eventually(lambda: calls)
        clock.moved = TIMES.renew_deadline
        with pytest.raises(LostLease):
            await keeping
        up.set()


async def test_a_leader_that_was_stopped_competes_anew_when_it_wakes_and_leads_again(field: Field) -> None:
    async with field.operator() as first:
        await eventually(first.leads)
        async with field.operator(replica=1) as second:
            await eventually(second.metrics)
            assert not second.leads()
            first.signal(signal.SIGSTOP)
            await eventually(second.leads)
            first.signal(signal.SIGCONT)
            await eventually(lambda: "it competes for it anew" in first.log.read_text())
            assert not first.leads()
            name = field.apply(**cli.PLAIN)
            await field.until_phase(name, "Complete")
        await eventually(first.leads)
        name = field.apply(name="again", storage={"uri": "pvc://claim/again"}, **cli.PLAIN)
        await field.until_phase(name, "Complete")
        assert first.process.is_alive()


async def test_a_leader_that_is_killed_in_mid_run_is_followed_and_nothing_is_made_twice(field: Field) -> None:
    train = "pretrain/train/plain-s0"
    field.hold(train)
    async with field.operator() as first, field.operator(replica=1) as second:
        await eventually(lambda: first.leads() or second.leads())
        leader, other = (first, second) if first.leads() else (second, first)
        name = field.apply(**cli.PLAIN)
        pod = await field.running(name, train)
        leader.signal(signal.SIGKILL)
        field.go_on()
        await eventually(other.leads)
        await field.until_phase(name, "Complete")
        assert pod["metadata"]["name"] in field.kubelet.started
        await as_if_undisturbed(field, name)


RUNS_AT_ONCE = 60
TERMS = 2


async def test_replicas_that_lose_the_lease_again_and_again_stay_and_finish_the_work(
    field: Field, proxy: Proxy
) -> None:
    """As on a machine that is too busy to renew in time: 60 runs come at once, and the first leaders hold the
    Lease for one term each, since their renewals fail. A process that ended then would stand in
    CrashLoopBackOff after a few times."""
    leaders: list[str] = []

    async def handler(call: Call) -> web.StreamResponse | None:
        if "/leases" not in call.path or call.method == "GET":
            return None
        holder = json.loads(call.body)["spec"]["holderIdentity"]
        if holder in leaders[:TERMS]:
            return failure(500, "Overloaded")
        answer = await call.pass_on(None)
        if answer.status < 300 and holder and holder not in leaders:
            leaders.append(holder)
        return answer

    proxy.handler = handler
    field.kubelet.lost.update(field.kubelet.nodes)  # pods stay pending
    names = [f"run-{number}" for number in range(RUNS_AT_ONCE)]
    given = {"storage": {"uri": "pvc://claim/runs"}, "runtimeRef": {"name": "stubs"}}
    field.kubectl.apply(*(runs.applied(name=name, **given) for name in names))
    async with (
        field.operator(kubeconfig=proxy.kubeconfig) as first,
        field.operator(kubeconfig=proxy.kubeconfig, replica=1) as second,
    ):
        await eventually(lambda: len(leaders) > TERMS)

        async def told() -> set[str]:
            found = await field.client.list(RUNS, field.kubectl.namespace)
            return {run["metadata"]["name"] for run in found if run.get("status", {}).get("conditions")}

        await eventually(told, lambda found: found == {*names})
        logs = [replica.log.read_text() for replica in (first, second)]
        assert first.process.is_alive()
        assert second.process.is_alive()
    assert sum(log.count("it competes for it anew") for log in logs) >= TERMS
    assert "unforeseen error" not in "".join(logs)
    jobs = await field.client.list(JOBS, field.kubectl.namespace)
    assert sorted(job["metadata"]["labels"]["ixt.dev/run"] for job in jobs) == sorted(names)
    assert [await first.ended(), await second.ended()] == [0, 0]


async def test_told_to_stop_it_leaves_the_lease_to_the_next(field: Field) -> None:
    async def leader() -> str:
        lease = await field.client.get(LEASES, field.kubectl.namespace, "ixt-operator")
        assert lease
        return str(lease["spec"].get("holderIdentity"))

    async with field.operator() as first:
        await eventually(first.leads)
        async with field.operator(replica=1) as second:
            await eventually(second.metrics)
            before = await leader()
            first.signal(signal.SIGTERM)
            assert await first.ended() == 0
            assert await leader() != before
            await eventually(second.leads)
    assert await second.ended() == 0
