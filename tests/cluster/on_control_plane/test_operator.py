"""Runs on a real API server with real controllers; pods by a kubelet's double, over stub steps."""

from cluster.on_control_plane.operating import Field, condition
from make.runs import keys


async def test_from_apply_to_complete(field: Field) -> None:
    async with field.operator():
        name = field.apply()
        status = await field.until_phase(name, "Complete")
    assert condition(status, "Complete")["reason"] == "RunComplete"
    assert status["summary"]["progressPercent"] == 100
    assert all(len(key) == 32 for key in keys(status).values())
    assert {step["state"] for stage in status["stages"] for step in stage["steps"]} == {"Complete"}
