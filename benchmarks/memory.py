"""The operator's memory with a thousand finished runs, and its time for a look at 256 pods that wait.

    nice -n -10 python benchmarks/memory.py [--runs 1000]

The process has all of the operator loaded. It takes so many finished runs of 15 lanes in 3 stages into its
cache, as a listing brings them, page by page, and answers a scrape; its resident memory is printed as it is
then and without any run. Then it observes and plans a run that has 256 pods Pending, 20 times. There is no
cluster: `benchmarks/controller.py` measures the whole process at work, with live runs.
The last line is JSON.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from make import runs  # noqa: E402 - needs tests/ on the path
from make.api import Api  # noqa: E402
from make.observed import Platform  # noqa: E402
from readings import memory_mb  # noqa: E402

from ixt_operator.adapters.kubernetes.client import JOBS, PAGE, PODS, RUNS  # noqa: E402
from ixt_operator.adapters.kubernetes.platform import KubernetesPlatform  # noqa: E402
from ixt_operator.api.status import RunStatus  # noqa: E402
from ixt_operator.controller import app, exporter  # noqa: E402, F401 - all of the operator
from ixt_operator.controller.operator import Operator  # noqa: E402
from ixt_operator.controller.writing import stored  # noqa: E402
from ixt_operator.planner.plan import plan  # noqa: E402
from ixt_operator.render.render import render  # noqa: E402

ARMS, SEEDS, STAGES = 5, 3, 3
PODS_WAITING, LOOKS = 256, 20
MOST_MB, MOST_SECONDS = 200.0, 0.05


def finished() -> str:
    """A finished run of the largest kind, as the API server answers it, with marks for its name and uid."""
    arms = [runs.arm(f"arm-{number}", "NextToken", seeds=[*range(SEEDS)]) for number in range(ARMS)]
    stages = [runs.stage(f"stage-{number}") for number in range(STAGES)]
    sim = Platform(runs.run(arms=arms, stages=stages, judge=None, maxParallelLanes=ARMS * SEEDS))
    list(sim.history(limit=2000))
    assert sim.status
    assert sim.status.ended
    manifest = runs.manifest(name="@NAME@", arms=arms, stages=stages, judge=None)
    manifest["metadata"] |= {"resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return json.dumps(manifest | {"status": stored(sim.status)})


def held(number: int, text: str) -> tuple[float, float]:
    """Resident memory in MB before and after so many finished runs are known."""
    operator = Operator(Api(), (), 600.0)
    gc.collect()
    before = memory_mb(os.getpid())
    for first in range(0, number, PAGE):
        page = [json.loads(text.replace("@NAME@", f"run-{each}")) for each in range(first, first + PAGE)]
        for manifest in page:
            operator.cache.put(RUNS, manifest)
    exporter.exposition(lambda: operator.series.lines(operator.client.now()), "")
    gc.collect()
    return before, memory_mb(os.getpid())


async def looks() -> list[float]:
    """Seconds of processor time of looks at a run whose training waits for its 256 pods."""
    sim = Platform(runs.run(stages=[runs.stage(train={"numNodes": PODS_WAITING})]))
    sim.until("pretrain/train/conditioned-s0")
    child = sim.newest("pretrain/train/conditioned-s0").child
    operator = Operator(Api(), (), 600.0)
    job = dict(render(sim.run, sim.runtime, child)[-1])
    now = {"uid": "job", "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1"}
    job["metadata"] = {**job["metadata"], **now}
    operator.cache.put(JOBS, job)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": child.name, "uid": "job", "controller": True}
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    for index in range(PODS_WAITING):
        metadata: dict[str, Any] = {
            **job["spec"]["template"]["metadata"],
            **now,
            "name": f"{child.name}-{index}",
            "namespace": "default",
            "uid": f"pod-{index}",
            "ownerReferences": [owner],
        }
        metadata["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index)}
        spec = job["spec"]["template"]["spec"]
        status = {"phase": "Pending", "conditions": [waits]}
        operator.cache.put(PODS, {"metadata": metadata, "spec": spec, "status": status})
    platform = KubernetesPlatform(
        operator.client, operator.cache, sim.run.metadata, {}, operator.explainer, lambda _: ()
    )
    found = []
    for _ in range(LOOKS):
        started = time.process_time()
        seen = await platform.observe()
        plan(sim.run, sim.runtime, seen, sim.status or RunStatus(), time.time())
        found.append(time.process_time() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    number = parser.parse_args().runs
    text = finished()
    before, after = held(number, text)
    seconds = asyncio.run(looks())
    slowest, middle = max(seconds), statistics.median(seconds)
    print(
        f"{number} finished runs, {len(text):,} bytes each: {before:.0f} MB before, {after:.0f} MB with them"
    )
    print(f"a look at {PODS_WAITING} pods that wait: {1000 * middle:.1f} ms, at most {1000 * slowest:.1f} ms")
    figures = {
        "mbWithoutRuns": round(before, 1), "mbWithRuns": round(after, 1), "lookMs": round(1000 * middle, 1),
        "slowestLookMs": round(1000 * slowest, 1),
        "targets": {"mbWithRuns": after < MOST_MB, "lookMs": middle < MOST_SECONDS},
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
