"""What people and machines read: kubectl's columns, conditions, Events, progress, metrics."""

from cluster.on_control_plane.operating import Field, condition, told
from make import cli
from make.exposed import read
from make.operator import eventually
from make.proxy import Proxy

PREPARE = "pretrain/prepare/plain"
TRAIN = "pretrain/train/plain-s0"


async def test_kubectl_shows_a_run_waits_for_it_and_tells_its_events(field: Field) -> None:
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        await field.until_phase(name, "Complete")
        await told(field, name, "RunComplete")
    field.kubectl("wait", "--for=condition=Complete", f"ixtrun/{name}", "--timeout=5s")
    header, line = field.kubectl("get", "ixt").splitlines()
    assert header.split() == ["NAME", "PHASE", "STAGE", "STEP", "PROGRESS", "ETA", "SECONDS", "AGE"]
    assert line.split()[:2] == [name, "Complete"]
    described = field.kubectl("describe", "ixtrun", name).partition("Events:")[2]
    for word in ("StepStarted", "StepComplete", "RunComplete", "ixt-operator"):
        assert word in described


async def test_the_plugin_says_what_a_run_waits_for_and_why_it_failed(field: Field) -> None:
    ixt = field.kubectl.ixt
    field.misbehave({TRAIN: {"*": {"hang": True}}})
    async with field.operator():
        name = field.apply(**cli.PLAIN, runtimeRef={"name": "later"})
        await field.until(name, lambda status: bool(condition(status, "Accepted")))
        assert "there is no IXTRuntime later" in ixt("status", name)
        assert "there is no IXTRuntime later" in field.kubectl("get", "ixt", "-o", "wide")
        field.edit(name, runtimeRef={"name": "stubs"})
        await field.running(name, TRAIN)
        assert f"run {name} has not failed: it is Running" in ixt("retry", name, code=1)
        assert f"pretrain/inventory (Succeeded)\n  {PREPARE} (Succeeded)\n  {TRAIN} (Running)" in ixt(
            "logs", name, "evaluate/plain", code=2
        )
        assert "has not begun, or its artifact was there before" in ixt("why", name, "report", code=2)
        assert "nothing caused a re-run" in ixt("why", name, "inventory")

        ixt("suspend", name)
        status = await field.until(
            name, lambda status: condition(status, "Suspended").get("status") == "True"
        )
        assert "step" not in status["summary"]
        assert f"kubectl ixt resume {name}" in ixt("status", name)

        field.misbehave({TRAIN: {"*": {"exit": 65, "message": "the data are empty"}}})
        ixt("resume", name)
        await field.until_phase(name, "Failed")
        assert "the data are empty" in ixt("status", name)
        field.misbehave({})
        ixt("retry", name)
        await field.until_phase(name, "Complete")


async def test_progress_of_a_pod_reaches_the_status_with_its_eta(field: Field) -> None:
    field.misbehave({TRAIN: {"*": {"seconds": 60}}})
    async with field.operator():
        name = field.apply(**cli.PLAIN)
        status = await field.until(name, lambda status: bool(status.get("summary", {}).get("etaSeconds")))
        step = next(each for each in status["stages"][0]["steps"] if each["name"] == "train/plain")
        assert step["done"] > 0
        assert step["unit"] == "parts"


async def test_an_idle_operator_writes_its_lease_and_nothing_else(field: Field, proxy: Proxy) -> None:
    async with field.operator(kubeconfig=proxy.kubeconfig):
        name = field.apply(**cli.PLAIN)
        await field.until_phase(name, "Complete")
        await told(field, name, "RunComplete")  # the last Event

        def renewals() -> int:
            return sum(method == "PUT" and "/leases/" in path for method, path in proxy.calls)

        now = renewals()
        await eventually(lambda: renewals() > now)  # what followed the last status is over
        start = len(proxy.calls)
        now = renewals()
        await eventually(lambda: renewals() > now + 1)
        writes = [path for method, path in proxy.calls[start:] if method != "GET"]
    assert all("/leases/" in path for path in writes)


async def test_metrics_bear_the_names_of_the_registry(field: Field) -> None:
    space = field.kubectl.namespace
    async with field.operator() as operator:
        name = field.apply(**cli.PLAIN)
        await field.until_phase(name, "Complete")
        found = await eventually(
            lambda: read(operator.metrics().encode()),
            lambda found: found.of("ixt_runs").get(f"{space},Complete") == 1,
        )
    assert found.of("ixt_run_progress_ratio", run=name, namespace=space) == {"": 1}
    assert found.of("ixt_operator_api_requests_total", verb="create", code="201")["jobs"] >= 5
    assert found.of("ixt_operator_leader") == {"": 1}
