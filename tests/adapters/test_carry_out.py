"""Moves of a plan that fail on the way."""

import asyncio

import pytest
from make import runs
from make.observed import Platform as Planned

from ixt_operator.adapters.port import Refused, carry_out
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import Observed
from ixt_operator.planner.plan import Plan


class Slow:
    """A platform whose deletes take their time, except for one, which fails at once."""

    def __init__(self) -> None:
        self.under_way: set[str] = set()
        self.created: list[Child] = []

    async def observe(self) -> Observed:
        return Observed(children={})

    async def create(self, child: Child) -> None:
        self.created.append(child)

    async def delete(self, name: str) -> None:
        if name == "bad":
            raise OSError("no answer")
        self.under_way.add(name)
        for _ in range(100):
            await asyncio.sleep(0)
        self.under_way.remove(name)

    async def scale(self, child: Child) -> None:
        raise AssertionError(child)


def moves(*deletes: str) -> Plan:
    planned = Planned(runs.run()).plan()
    assert planned.create
    return planned._replace(delete=deletes)


async def test_a_delete_that_fails_lets_the_others_end_before_it_is_told() -> None:
    platform = Slow()
    with pytest.raises(OSError, match="no answer"):
        await carry_out(platform, moves("one", "bad", "two"))
    assert platform.under_way == set()
    assert platform.created == []


async def test_deletes_come_before_creates() -> None:
    platform = Slow()
    await carry_out(platform, moves("one", "two"))
    assert platform.under_way == set()
    assert len(platform.created) == 1


async def test_a_child_that_is_refused_keeps_no_other_from_being_made() -> None:
    arms = [runs.arm("a", "NextToken"), runs.arm("b", "NextToken")]
    planned = Planned(runs.run(arms=arms, maxParallelLanes=2))
    planned.until("pretrain/prepare/a")
    one, two = (planned.newest(f"pretrain/prepare/{arm}").child for arm in "ab")

    class Limited(Slow):
        async def create(self, child: Child) -> None:
            if child is one:
                raise Refused("exceeded quota")
            await super().create(child)

    platform = Limited()
    refused = await carry_out(platform, moves()._replace(create=(one, two)))
    assert refused == {one.node: "exceeded quota"}
    assert platform.created == [two]
