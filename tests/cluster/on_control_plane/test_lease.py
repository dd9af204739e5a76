"""Leader election: one writer at a time, whatever happens to it, its network or its clock."""

import asyncio
import signal
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane
from cluster.on_control_plane.operating import Field
from make.operator import connected, eventually
from make.proxy import Call, failure, proxied

from ixt_operator.adapters.kubernetes.client import LEASES
from ixt_operator.adapters.kubernetes.lease import HELD_SECONDS, LEASE_SECONDS, Elector, LostLease

TAKEOVER_SECONDS = 20


class Clock:
    """A monotonic clock that a test may move."""

    def __init__(self) -> None:
        self.moved = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.moved


def elector(field: Field, name: str, clock: Clock | None = None) -> Elector:
    return Elector(field.client, field.kubectl.namespace, "lease", name, clock or Clock())


async def holder(field: Field) -> str:
    lease = await field.client.get(LEASES, field.kubectl.namespace, "lease")
    return str(lease["spec"]["holderIdentity"]) if lease else ""


async def test_one_leads_and_the_next_one_takes_over_at_once_when_it_is_released(field: Field) -> None:
    first, second = elector(field, "first"), elector(field, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0)
    assert (first.leading, second.leading, await holder(field)) == (True, False, "first")
    await first.release()
    assert not first.leading
    await asyncio.wait_for(waiting, 5)
    assert await holder(field) == "second"
    first_again = pytest.raises(LostLease)
    with first_again:
        first.fence()


async def test_a_holder_that_is_gone_is_followed_when_its_time_is_over(field: Field) -> None:
    first, clock = elector(field, "first"), Clock()
    await first.acquire()
    second = elector(field, "second", clock)
    waiting = asyncio.create_task(second.acquire())
    await eventually(lambda: second._seen[0])
    clock.moved = LEASE_SECONDS - 1
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.moved = LEASE_SECONDS + 1
    await asyncio.wait_for(waiting, 10)
    assert await holder(field) == "second"
    with pytest.raises(LostLease, match="second took the Lease"):
        await first.keep()


async def test_a_holder_whose_clock_jumped_writes_nothing_more(field: Field) -> None:
    clock = Clock()
    first = elector(field, "first", clock)
    await first.acquire()
    first.fence()
    clock.moved = HELD_SECONDS
    with pytest.raises(LostLease):
        first.fence()
    with pytest.raises(LostLease):
        await first.keep()


async def test_of_many_that_start_at_once_one_leads(field: Field) -> None:
    electors = [elector(field, f"e{number}") for number in range(8)]
    waiting = [asyncio.create_task(each.acquire()) for each in electors]
    await eventually(lambda: any(each.leading for each in electors))
    await asyncio.sleep(0.5)
    assert sum(each.leading for each in electors) == 1
    for task in waiting:
        task.cancel()


@pytest.mark.parametrize("trouble", ["503", "hang"])
async def test_a_short_trouble_loses_no_lease_and_a_long_one_does(
    field: Field, cluster: ControlPlane, tmp_path: Path, trouble: str
) -> None:
    down = False

    async def handler(call: Call) -> object:
        if not down:
            return None
        if trouble == "hang":
            await asyncio.sleep(3600)
        return failure(503, "ServiceUnavailable")

    async with proxied(cluster.server, cluster.pki, tmp_path) as proxy, connected(proxy.kubeconfig) as client:
        proxy.handler = handler
        first = Elector(client, field.kubectl.namespace, "lease", "first")
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        down = True
        await asyncio.sleep(3)
        down = False
        await eventually(lambda: proxy.calls[-1][0] == "PUT")
        assert first.leading
        assert not keeping.done()
        down = True
        with pytest.raises(LostLease):
            await asyncio.wait_for(keeping, HELD_SECONDS + 6)


async def test_a_leader_that_was_stopped_ends_when_it_wakes_and_another_leads_meanwhile(field: Field) -> None:
    async with field.operator() as first:
        await eventually(first.leads)
        async with field.operator(replica=1) as second:
            await eventually(second.metrics)
            assert not second.leads()
            first.signal(signal.SIGSTOP)
            await eventually(second.leads, seconds=TAKEOVER_SECONDS)
            first.signal(signal.SIGCONT)
            assert await first.ended(15) == 1
            assert (
                "does not hold the Lease" in first.log.read_text()
                or "took the Lease" in first.log.read_text()
            )
            name = field.apply()
            await field.until_phase(name, "Complete")


async def test_told_to_stop_it_leaves_the_lease_to_the_next(field: Field) -> None:
    async with field.operator() as first:
        await eventually(first.leads)
        async with field.operator(replica=1) as second:
            await eventually(second.metrics)
            first.signal(signal.SIGTERM)
            assert await first.ended() == 0
            await eventually(second.leads, seconds=5)
    assert await second.ended() == 0
