"""What the API server will not have until a person changes something."""

import re

from cluster.on_control_plane.operating import Field, condition
from make.operator import eventually

QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "no-jobs"},
    "spec": {"hard": {"count/jobs.batch": "0"}},
}


async def test_a_quota_that_is_exceeded_is_named_and_waited_for(field: Field) -> None:
    field.kubectl.apply(QUOTA)
    field.kubectl("wait", "--for=jsonpath={.status.hard}", "quota/no-jobs", "--timeout=30s")
    async with field.operator() as operator:
        name = field.apply()

        def looks() -> float:
            found = re.search(r'ixt_operator_reconciles_total{outcome="error"} (\S+)', operator.metrics())
            return float(found[1]) if found else 0

        await eventually(looks, lambda number: number >= 4)
        status = (await field.run(name))["status"]
        assert condition(status, "Progressing")["reason"] == "CreateRefused"
        assert "exceeded quota: no-jobs" in status["summary"]["message"]
        # However often it is tried, it is one attempt, and leaves one ConfigMap.
        configs = field.kubectl.json("get", "configmaps", "-l", f"ixt.dev/run={name}")["items"]
        assert ["task.json" in config.get("data", {}) for config in configs].count(True) == 1
        assert {step["attempt"] for stage in status["stages"] for step in stage["steps"]} == {0}
        field.kubectl("delete", "quota", "no-jobs")
        await field.until_phase(name, "Complete")
