"""The operator dies around every write, and the run ends as if it had not."""

import json
import signal
from collections import Counter
from typing import Any

from aiohttp import web
from cluster.on_control_plane.operating import Field, jobs_made, left_behind
from make import runs
from make.operator import Operator, eventually
from make.proxy import Call, Proxy, failure
from make.runs import keys

from ixt_operator.adapters.kubernetes.client import RUNS

BOTH: dict[str, Any] = {"arms": [runs.arm("conditioned"), runs.arm("plain", "NextToken")]}


def what(call: Call) -> str:
    """What a write says, whenever it is said: times are left out."""
    body = json.loads(call.body or b"{}")
    status = body.get("status") or {}
    steps = [[step["name"], step["state"]] for stage in status.get("stages", ()) for step in stage["steps"]]
    conditions = [[entry["type"], entry["status"]] for entry in status.get("conditions", ())]
    name = body.get("metadata", {}).get("name", "")
    return json.dumps([call.method, call.path.partition("?")[0], name, conditions, steps])


async def test_killed_before_and_after_every_write(field: Field, proxy: Proxy) -> None:
    field.apply(name="undisturbed", **BOTH)
    async with field.operator(kubeconfig=proxy.kubeconfig):
        wanted = keys(await field.until_phase("undisturbed", "Complete"))
    children = await jobs_made(field, "undisturbed")

    field.apply(name="disturbed", storage={"uri": "pvc://claim/other"}, **BOTH)
    living: list[Operator] = []
    disturbed: Counter[str] = Counter()

    async def kill(call: Call) -> web.StreamResponse | None:
        """Of every write the first try is lost with the operator, the second is made while it dies."""
        if not call.is_write or not living[-1].process.is_alive():
            return None
        disturbed[what(call)] += 1
        if disturbed[what(call)] > 2:
            return None
        living[-1].signal(signal.SIGKILL)
        return failure(503, "TooLate") if disturbed[what(call)] == 1 else None

    proxy.handler = kill
    while not await complete(field):
        async with field.operator(
            f"--lease-name=life-{len(living)}", kubeconfig=proxy.kubeconfig
        ) as operator:
            living.append(operator)

            async def ended(life: Operator = operator) -> bool:
                return not life.process.is_alive() or await complete(field)

            await eventually(ended)
    status = await field.until_phase("disturbed", "Complete", seconds=1)
    assert keys(status) == wanted
    assert await jobs_made(field, "disturbed") == children
    assert await left_behind(field, "disturbed") == []
    assert len(living) > len(disturbed), "every write killed an operator, most of them two"


async def complete(field: Field) -> bool:
    found = await field.client.get(RUNS, field.kubectl.namespace, "disturbed")
    return bool(found and found.get("status", {}).get("phase") == "Complete")
