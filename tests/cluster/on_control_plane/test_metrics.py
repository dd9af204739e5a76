"""What Prometheus reads at operators while a run goes through, on a real API server."""

import asyncio
import signal
from typing import Any

from cluster.on_control_plane.operating import Field
from make import cli
from make.exposed import Exposed, read
from make.operator import Operator, eventually

from ixt_operator.adapters.kubernetes.client import RUNS

NODE = "pretrain/train/plain-s0"


async def scrape(operator: Operator) -> Exposed:
    return read((await asyncio.to_thread(operator.metrics)).encode())


async def shown(operator: Operator, name: str, **labels: str) -> dict[str, float]:
    """A metric once there are values of it."""

    async def values() -> dict[str, float]:
        return (await scrape(operator)).of(name, **labels)

    return dict(await eventually(values))


def of_runs(found: Exposed) -> set[str]:
    return {name for name in found if not name.startswith("ixt_operator_")}


async def test_a_runs_series_come_and_go_with_it_at_the_leader_alone(field: Field) -> None:
    field.hold(NODE)
    async with field.operator() as leader:
        await eventually(leader.leads)
        async with field.operator(replica=1) as other:
            name = field.apply(**cli.PLAIN)
            await field.running(name, NODE)
            of_step = {"run": name, "step": "train/plain", "namespace": field.kubectl.namespace}
            state = await shown(leader, "ixt_step_state", **of_step, state="Running")
            assert list(state.values()) == [1]
            await eventually(other.metrics)
            assert of_runs(await scrape(other)) == set()
            found = await scrape(leader)
            assert found.of("ixt_runs") == {f"{field.kubectl.namespace},Running": 1}
            requests = found.of("ixt_operator_api_requests_total", code="200")
            assert {"ixtruns,list", "ixtruns,watch", "pods,watch", "leases,get"} <= requests.keys()
            field.go_on()
            await field.until_phase(name, "Complete")
            await shown(leader, "ixt_run_completion_timestamp_seconds", run=name)
            assert all(each.startswith("ixt_run") for each in of_runs(await scrape(leader)))
            await field.client.delete(RUNS, field.kubectl.namespace, name)
            await eventually(lambda: scrape(leader), lambda found: not of_runs(found))


async def test_a_restart_leaves_a_runs_series_as_they_were(field: Field) -> None:
    field.hold(NODE)
    async with field.operator() as operator:
        name = field.apply(**cli.PLAIN)
        await field.running(name, NODE)
        await shown(operator, "ixt_step_state", run=name, state="Running")
        before = await scrape(operator)
        operator.signal(signal.SIGKILL)
        await operator.ended()
        operator.start()
        await shown(operator, "ixt_step_state", run=name, state="Running")
        after = await scrape(operator)
        field.go_on()

    def standing(found: Exposed) -> Any:
        return {
            each: found[each]
            for each in ("ixt_run_info", "ixt_run_start_timestamp_seconds", "ixt_step_state")
        }

    assert standing(after) == standing(before)
