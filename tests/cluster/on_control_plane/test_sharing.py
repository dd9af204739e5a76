"""Two runs that need the same artifacts, or share a claim: what one pays for the other takes."""

from cluster.on_control_plane.operating import Field, committed, condition, jobs_made
from make import cli, runs
from make.runs import keys

from ixt_operator.adapters.kubernetes.client import Object

PREPARE = "pretrain/prepare/plain"


def waits(status: Object) -> bool:
    return condition(status, "Progressing").get("reason") == "ClaimHeld"


async def test_of_two_that_want_the_same_one_makes_it_and_the_other_says_for_whom_it_waits(
    field: Field,
) -> None:
    field.hold(PREPARE)
    async with field.operator():
        field.apply(name="one", **cli.PLAIN)
        await field.running("one", PREPARE)
        field.apply(name="two", **cli.PLAIN)
        status = await field.until("two", waits)
        assert "run one on " in status["summary"]["message"]
        assert f"is making {PREPARE}" in status["summary"]["message"]
        field.go_on()
        one = await field.until_phase("one", "Complete")
        two = await field.until_phase("two", "Complete")
    assert of_steps(keys(one)) == of_steps(keys(two))
    assert set(committed(field).values()) == {1}
    taken = {step["name"] for stage in two["stages"] for step in stage["steps"] if step.get("cached")}
    assert taken >= {"prepare/plain", "train/plain", "evaluate/plain"}
    assert not any("Infrastructure" in str(step.get("attemptsByFault")) for step in two["stages"][0]["steps"])


async def test_a_run_that_comes_later_makes_what_it_alone_needs(field: Field) -> None:
    both = [runs.arm("conditioned"), runs.arm("plain", "NextToken")]
    async with field.operator():
        field.apply(name="one", arms=both[:1])
        await field.until_phase("one", "Complete")
        field.apply(name="two", arms=both)
        status = await field.until_phase("two", "Complete")
    assert set(committed(field).values()) == {1}
    made = {node.removeprefix("pretrain/") for node, _ in await jobs_made(field, "two")}
    assert made == {"inventory", "prepare/plain", "train/plain-s0", "evaluate/plain-s0", "report"}
    taken = {step["name"] for step in status["stages"][0]["steps"] if step.get("cached")}
    assert taken >= {"annotate/0-15", "train/conditioned", "evaluate/conditioned"}


async def test_two_side_by_side_on_one_claim_do_not_mind_each_other(field: Field) -> None:
    async with field.operator():
        for name in ("one", "two"):
            field.apply(name=name, storage={"uri": f"pvc://claim/{name}"}, **cli.PLAIN)
        one, two = [await field.until_phase(name, "Complete") for name in ("one", "two")]
    assert of_steps(keys(one)) == of_steps(keys(two))
    assert set(committed(field).values()) <= {1, 2}
    assert {*(await jobs_made(field, "one")).values(), *(await jobs_made(field, "two")).values()} == {1}


def of_steps(found: dict[str, str]) -> dict[str, str]:
    """Without the report's, which is the run's own."""
    return {node: key for node, key in found.items() if not node.endswith("/report")}
