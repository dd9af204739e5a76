"""The operator with a thousand runs, against Kubeflow Trainer with a thousand TrainJobs.

    nice -n -10 python benchmarks/controller.py [--runs 1000] [--clients 20] [--idle-seconds 60] [--only ixt]

Each side has a control plane of its own: etcd, API server and controller manager as processes of this
machine; pods stay Pending. So many clients create all objects at once. The time counts from the first create
to the last object's first Job, and with it the processor time of control plane and controllers, once until
then and once until nothing is written any more. Then both sides rest: what the controllers use and what
anybody writes is counted, Leases apart. Trainer runs as it is shipped, and once more with the limit on its
requests lifted, which its shipped configuration sets at 50 a second. At last pods of resting runs are
changed, one at a time: the latency runs from sending the change to seeing the run's status tell of it; and
the leader is killed, to see how long nobody leads. A control plane without operator shows what is left to
win: there the clients create, beside the runs, each one's first ConfigMap and Job.
The last line is JSON: figures of each side, ratios to the peer, and whether each target is met.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import kubeflow  # noqa: E402 - needs tests/ on the path
from cluster import binaries  # noqa: E402
from cluster.base import serves  # noqa: E402
from cluster.control_plane import ControlPlane, control_plane  # noqa: E402
from make import runs  # noqa: E402
from make.operator import connected  # noqa: E402
from ports import free_port  # noqa: E402
from readings import (  # noqa: E402
    SPACE,
    count,
    difference,
    in_words,
    memory_mb,
    processor_seconds,
    until_rest,
    watch,
    writes_of,
)

from ixt_operator.adapters.kubernetes.client import (  # noqa: E402
    CONFIG_MAPS,
    JOBS,
    PODS,
    RUNS,
    Client,
    Object,
    Resource,
)
from ixt_operator.api.run import IXTRun  # noqa: E402
from ixt_operator.api.status import rfc3339  # noqa: E402
from ixt_operator.render.preview import preview  # noqa: E402

LOOK_SECONDS = 0.25
"""Between two counts of Jobs."""
PATIENCE_SECONDS = 600.0
CHANGES = 200
"""Of pods, for the latency."""

TARGETS = {
    "secondsToLastJob": 15.0,
    "cpuRatio": 0.25,
    "p99Seconds": 1.0,
    "rssMB": 150.0,
    "idleCoreShare": 0.01,
    "idleWrites": 0.0,
    "takeoverSeconds": 20.0,
}
"""None may be exceeded."""
SPEED_UP = 4.0
"""Of the time to the last Job; at least."""
SHIPPED, UNLIMITED = 50, 10_000
"""Requests a second that Trainer's configuration allows it."""


@dataclass(frozen=True)
class Side:
    """Controllers that make Jobs for objects of a kind."""

    name: str
    kind: Resource
    crds: Path
    manifests: Callable[[str], list[tuple[Resource, Object]]]
    """What the clients create for one object."""
    start: Callable[[ControlPlane], Awaitable[list[str]]]
    """Start the controllers and wait until they serve; names of their programs."""


def ixt() -> Side:
    """The operator, as its chart starts it; one replica."""

    async def start(plane: ControlPlane) -> list[str]:
        plane.kubectl().apply(runs.RUNTIMES["cpu"].model_dump(mode="json", by_alias=True, exclude_none=True))
        _replica(plane, "operator")
        _until_leads(plane, "operator")
        return ["operator"]

    return Side("ixt", RUNS, ROOT / "crds", lambda name: [(RUNS, _run(name))], start)


def _replica(plane: ControlPlane, name: str) -> str:
    """Start the operator; where it answers probes."""
    port = free_port()
    module = [sys.executable, "-m", "ixt_operator.controller.app"]
    options = [f"--lease-namespace={SPACE}", f"--port={port}"]
    plane.run(name, ["env", f"KUBECONFIG={plane.kubeconfig}", *module, *options])
    return f"http://127.0.0.1:{port}/healthz"


def _until_leads(plane: ControlPlane, name: str) -> None:
    leads = re.compile(r"\bleads$", re.MULTILINE)
    plane.until(lambda: bool(leads.search(plane.log(name).read_text())), f"leader {name}")


def _run(name: str) -> Object:
    return runs.applied(name=name, storage={"uri": "pvc://claim/runs"})


def floor() -> Side:
    """No operator: its objects come from the clients, who know what to create and wait for nothing."""

    async def start(plane: ControlPlane) -> list[str]:
        return []

    def manifests(name: str) -> list[tuple[Resource, Object]]:
        config, job, *_ = preview(IXTRun.model_validate(_run(name)), runs.RUNTIMES["cpu"])
        return [(RUNS, _run(name)), (CONFIG_MAPS, config), (JOBS, job)]

    return Side("floor", RUNS, ROOT / "crds", manifests, start)


def trainer(folder: Path, name: str, requests_per_second: int) -> Side:
    """Kubeflow Trainer with JobSet, webhooks included; one replica of each."""

    async def start(plane: ControlPlane) -> list[str]:
        return await asyncio.to_thread(kubeflow.start, plane, requests_per_second)

    def manifests(name: str) -> list[tuple[Resource, Object]]:
        return [(kubeflow.TRAIN_JOBS, kubeflow.train_job(name))]

    return Side(name, kubeflow.TRAIN_JOBS, kubeflow.crds(folder), manifests, start)


async def measured(side: Side, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of a side, on a new control plane."""
    with tempfile.TemporaryDirectory() as place, control_plane(Path(place), crds=side.crds) as plane:
        async with connected(plane.kubeconfig) as client:
            controllers = await side.start(plane)
            found = await burst(side, plane, client, controllers, arguments)
            if controllers:
                found |= await idle(side, plane, controllers, arguments.idle_seconds)
            if "operator" in controllers:
                found |= await latency(side, plane, client, min(CHANGES, arguments.runs))
                found |= takeover(side, plane)
            return found


async def burst(
    side: Side, plane: ControlPlane, client: Client, controllers: list[str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Create everything at once, and wait for the Jobs and then for rest."""
    names = (f"bench-{number:05}" for number in range(arguments.runs))
    bodies = [
        [(plane.server + kind.path(SPACE), json.dumps(body)) for kind, body in side.manifests(name)]
        for name in names
    ]
    waiting = iter(bodies)
    before, writes = processor_seconds(plane), writes_of(plane)

    async def create(http: aiohttp.ClientSession) -> None:
        for objects in waiting:
            for url, body in objects:
                async with http.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                    if answer.status != 201:
                        raise SystemExit(f"{side.name}: {url} refused {body}: {await answer.text()}")

    async def create_all() -> None:
        connector = aiohttp.TCPConnector(ssl=plane.credentials(), limit=arguments.clients)
        async with aiohttp.ClientSession(connector=connector) as http:
            await asyncio.gather(*(create(http) for _ in range(arguments.clients)))

    begun = time.monotonic()
    creating = asyncio.create_task(create_all())
    while await count(client, JOBS) < arguments.runs:
        if creating.done():
            creating.result()
        plane.check()
        if time.monotonic() > begun + PATIENCE_SECONDS:
            raise SystemExit(f"{side.name}: not every object has a Job after {PATIENCE_SECONDS:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)
    seconds = time.monotonic() - begun
    used = difference(processor_seconds(plane), before)
    await creating
    print(f"{side.name}: {arguments.runs} first Jobs after {seconds:.1f} s, {in_words(used)}", flush=True)
    settled = await until_rest(plane, before)
    written = {
        what: number for what, number in (writes_of(plane) - writes).items() if what.split()[1] != "leases"
    }
    memory = {name: round(memory_mb(plane.pid(name)), 1) for name in controllers}
    print(f"{side.name}: at rest after {in_words(settled)}, holding {memory} MB", flush=True)
    print(f"{side.name}: writes {written}", flush=True)
    return {
        "secondsToLastJob": round(seconds, 2),
        "cpuSeconds": round(sum(used.values()), 2),
        "cpuSecondsByProgram": used,
        "cpuSecondsToRest": round(sum(settled.values()), 2),
        "cpuSecondsToRestByProgram": settled,
        "writes": written,
        "rssMB": round(sum(memory.values()), 1),
    }


async def idle(side: Side, plane: ControlPlane, controllers: list[str], seconds: float) -> dict[str, Any]:
    """What the controllers use, and what anybody writes, while nothing happens."""
    before, writes = processor_seconds(plane), writes_of(plane)
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    used = difference(processor_seconds(plane), before)
    share = sum(used[name] for name in controllers) / (time.monotonic() - begun)
    written = writes_of(plane) - writes
    others = {what: number for what, number in written.items() if what.split()[1] != "leases"}
    leases = written.total() - sum(others.values())
    print(
        f"{side.name}: {seconds:.0f} s idle: {100 * share:.2f} % of a core, {leases} writes of Leases, "
        f"others: {others or 'none'}",
        flush=True,
    )
    return {
        "idleSeconds": seconds,
        "idleCoreShare": round(share, 5),
        "idleLeaseWrites": leases,
        "idleWrites": sum(others.values()),
        "idleWritesOf": others,
    }


async def latency(side: Side, plane: ControlPlane, client: Client, changes: int) -> dict[str, Any]:
    """Tell of one pod after the other that no node has room for it, and see the run's status say so."""
    said = "0/1 nodes are available: 1 Insufficient cpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    pods = (await client.list(PODS, SPACE))[:changes]
    seen = {pod["metadata"]["labels"]["ixt.dev/run"]: asyncio.Event() for pod in pods}

    def saw(run: Object) -> None:
        name = run["metadata"]["name"]
        if name in seen and said in json.dumps(run.get("status", {})):
            seen[name].set()

    took = []
    watching = asyncio.create_task(watch(plane, RUNS, saw))
    try:
        for pod in pods:
            path = PODS.path(SPACE, pod["metadata"]["name"], "status")
            now = rfc3339(time.time())
            patch = {"status": {"conditions": [{**condition, "lastTransitionTime": now}]}}
            begun = time.monotonic()
            await client.request("PATCH", path, patch, content_type="application/merge-patch+json")
            async with asyncio.timeout(60):
                await seen[pod["metadata"]["labels"]["ixt.dev/run"]].wait()
            took.append(time.monotonic() - begun)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    quantiles = statistics.quantiles(took, n=100, method="inclusive")
    found = {"p50Seconds": round(quantiles[49], 4), "p99Seconds": round(quantiles[98], 4)}
    print(f"{side.name}: from a pod's change to the run's status: {found}, of {len(took)}", flush=True)
    return {"changes": len(took), **found}


def takeover(side: Side, plane: ControlPlane) -> dict[str, Any]:
    """Kill the leader without a word, and see the other replica lead."""
    address = _replica(plane, "successor")
    plane.until(lambda: serves(address), "second replica")
    plane.stop("operator")
    begun = time.monotonic()
    _until_leads(plane, "successor")
    seconds = round(time.monotonic() - begun, 2)
    print(f"{side.name}: another replica leads {seconds} s after the leader was killed", flush=True)
    return {"takeoverSeconds": seconds}


def compared(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """Ours to the peer."""
    return {
        "speedUp": round(peer["secondsToLastJob"] / ours["secondsToLastJob"], 2),
        "cpuRatio": round(ours["cpuSeconds"] / peer["cpuSeconds"], 3),
        "cpuToRestRatio": round(ours["cpuSecondsToRest"] / peer["cpuSecondsToRest"], 3),
    }


def main() -> None:
    """All sides, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--only", choices=["ixt"], help="leave the others out")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    binaries.build(binaries.GROUPS["control-plane"] + (() if arguments.only else binaries.GROUPS["peers"]))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    ours = asyncio.run(measured(ixt(), arguments))
    found: dict[str, Any] = {"benchmark": "controller", "runs": arguments.runs, "ixt": ours}
    met = {name: ours[name] <= most for name, most in TARGETS.items() if name in ours}
    if not arguments.only:
        found["floor"] = asyncio.run(measured(floor(), arguments))
        found["floor"] |= compared(ours, found["floor"])
        with tempfile.TemporaryDirectory() as place:
            for name, limit in (("trainer", SHIPPED), ("trainerUnlimited", UNLIMITED)):
                found[name] = asyncio.run(measured(trainer(Path(place), name, limit), arguments))
                found[name] |= compared(ours, found[name])
        met["speedUp"] = found["trainer"]["speedUp"] >= SPEED_UP
        met["cpuRatio"] = found["trainer"]["cpuRatio"] <= TARGETS["cpuRatio"]
    print(json.dumps({**found, "met": met}))


if __name__ == "__main__":
    main()
