"""What a scrape of the operator costs with a thousand runs, of which fifty are active.

    python benchmarks/metrics.py [--runs 1000] [--active 50] [--scrapes 10]

Each run has three stages and four arms with two seeds. A finished one has its status. Of an active one,
the first stage's annotation and all its trainings run: 4 workers and 8 trainers that tell all figures they
can, and before them each has had an attempt that failed. Between two scrapes every active run's status
changes, and all its pods answer anew, as with an operator that asks every 15 s. Processor time is that of the
operator's process, with compression; the first scrape, when nothing is kept yet, is told apart.
The last line is JSON.
"""

import argparse
import gzip
import json
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from make.exposed import START, Cluster, conditions, read, step  # noqa: E402 - needs tests/ on the path

from ixt_operator.controller import exporter  # noqa: E402
from ixt_operator.controller.scrape import RunSeries  # noqa: E402
from ixt_workloads.contract.figures import SUM, bound  # noqa: E402
from ixt_workloads.contract.metrics import STEP_METRICS, Metric, Spending, Type  # noqa: E402
from ixt_workloads.contract.results import Progress  # noqa: E402

STAGES = ("pretrain", "midtrain", "sft")
ARMS = ("conditioned", "next-token", "filtered", "annealed")
SEEDS = ("0", "1")
WORKERS = 4
PERIOD_SECONDS = 15.0

TARGETS = {"cpuSeconds": 0.3, "megabytes": 10.0, "coreShare": 0.02}
"""None may be exceeded; of a scrape, the median."""

chance = random.Random(1)


def status(name: str, *, active: bool) -> dict[str, Any]:
    """The status of a run in its first stage, or at its end."""
    stages = []
    for stage in STAGES:
        running = active and stage == STAGES[0]
        state = "Running" if running else "Waiting" if active else "Complete"
        steps = [step("inventory", "Inventory", state="Waiting" if state == "Waiting" else "Complete")]
        for named, kind, arm, unit in (
            ("annotate/0-30", "Annotate", "", "documents"), ("annotate/holdout", "Annotate", "", "documents"),
            *((f"{kind.lower()}/{arm}", kind, arm, unit) for kind, unit in (
                ("Prepare", "sequences"), ("Train", "tokens"), ("Evaluate", "")
            ) for arm in ARMS),
        ):  # fmt: skip
            amount = {"done": chance.randrange(10**9), "total": 10**9, "unit": unit} if unit else {}
            steps.append(
                step(named, kind, arm, state=state, key="0" * 32, attempt=2,
                     attemptsByFault={"Infrastructure": 1}, message=f"{kind} of {name}", **amount)
            )  # fmt: skip
        stages.append({"name": stage, "pins": {}, "steps": steps})
    return {
        "spec": {"queueName": "gpus", "activeDeadlineSeconds": 864_000},
        "conditions": conditions(
            Accepted=("True", "Valid"), Progressing=(str(active), "StepsRunning", "12 of 99"),
            Suspended=("False", "NotSuspended"), Complete=(str(not active), "RunComplete"),
            Failed=("False", "RunNotFailed"),
        ),
        "summary": {"stage": STAGES[0], "step": "x", "progressPercent": 42, "etaSeconds": 3600},
        "cost": {
            "flops": dict.fromkeys(("annotation", "training", "evaluation"), str(10**20)),
            "savedFlops": {"annotation": str(10**20)},
            "gpuSeconds": {purpose: chance.randrange(10**6) for purpose in Spending},
            "cpuSeconds": {purpose: chance.randrange(10**6) for purpose in Spending},
        },
        "goodputPercent": 83,
        **({} if active else {"completionTime": "2027-02-15T08:00:00Z"}),
        "stages": stages,
    }  # fmt: skip


LABELS = {"level": tuple("12345"), "task": ("sums", "carries", "arc")}
"""Of labels that may be any text."""


def figures(area: str) -> dict[str, dict[str, float]]:
    """Each figure of an area with all its labels."""
    found = {}
    for name, metric in STEP_METRICS.items():
        if name.startswith(f"ixt_{area}"):
            places = [bound(upper) for upper in metric.buckets] + [SUM]
            names = places if metric.type is Type.HISTOGRAM else labels(metric)
            most = 1.0 if name.endswith("_ratio") else 1e6
            found[name] = {label: chance.uniform(0, most) for label in names}
            if metric.type is Type.HISTOGRAM:
                found[name] = {label: float(round(value)) for label, value in found[name].items()}
    return found


def labels(metric: Metric) -> list[str]:
    """All labels that a figure may have."""
    found = [""]
    for place, label in enumerate(metric.labels):
        values = (metric.values[place] if metric.values else ()) or LABELS[label]
        found = [f"{before},{value}" if place else value for before in found for value in values]
    return found


def progress(area: str) -> Progress:
    """What a pod tells that tells all it can."""
    return Progress(done=chance.random(), total=1, unit="tokens", per_second=5, figures=figures(area))


def pods(cluster: Cluster, run: str) -> dict[str, str]:
    """The attempts of an active run, with what their pods tell about, by uid."""
    found = {}
    nodes = [("Annotate", "annotation", {"part": "0-30"}, WORKERS)]
    nodes += [("Train", "training", {"arm": arm, "seed": seed}, 1) for arm in ARMS for seed in SEEDS]
    for kind, area, node, indexes in nodes:
        for attempt in range(2):
            child = f"{run}-{kind}-{'-'.join(node.values())}-{attempt}".lower()
            job = cluster.attempt(child, run, attempt, kind=kind, stage=STAGES[0], **node)
            for index in range(indexes):
                if attempt == 0:
                    result = {"outcome": "Failed", "figures": figures(area)}
                    cluster.pod(job, index, "Failed", result=json.dumps(result))
                else:
                    found[cluster.pod(job, index, told=progress(area))] = area
    return found


def fleet(runs: int, active: int) -> tuple[Cluster, list[str], dict[str, str]]:
    """Runs on a cluster, the names of the active ones, and what each of their pods tells about, by uid."""
    cluster, told = Cluster(), dict[str, str]()
    names = [f"run-{number:04}" for number in range(active)]
    for name in names:
        cluster.run(name, **status(name, active=True))
        told |= pods(cluster, name)
    for number in range(active, runs):
        cluster.run(f"run-{number:04}", "Complete", **status(str(number), active=False))
    return cluster, names, told


def go_on(cluster: Cluster, active: list[str], told: dict[str, str], now: float) -> None:
    """All active runs have another status, and all their pods answer anew."""
    for name in active:
        cluster.run(name, **status(name, active=True))
    for uid, area in told.items():
        cluster.hear(uid, progress(area), now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--active", type=int, default=50)
    parser.add_argument("--scrapes", type=int, default=10)
    arguments = parser.parse_args()
    cluster, active, told = fleet(arguments.runs, arguments.active)
    refused: Counter[str] = Counter()
    series = RunSeries(cluster.cache, cluster.progress, {}, refused.update)
    used, body = [], b""
    for scrape in range(arguments.scrapes + 1):
        now = START + scrape * PERIOD_SECONDS
        go_on(cluster, active, told, now)
        before = time.process_time()
        body, _ = exporter.exposition(lambda now=now: series.lines(now), "")
        packed = len(gzip.compress(body, 1))
        used.append(time.process_time() - before)
        print(f"scrape {scrape}: {used[-1] * 1000:.0f} ms", flush=True)
    exposed = read(body)
    if refused:
        raise SystemExit(f"figures of this benchmark were refused: {refused}")
    found = {
        "runs": arguments.runs,
        "active": arguments.active,
        "pods": len(told),
        "series": sum(map(len, exposed.values())),
        "megabytes": round(len(body) / 1e6, 2),
        "megabytesPacked": round(packed / 1e6, 2),
        "cpuSecondsOfTheFirst": round(used[0], 3),
        "cpuSeconds": round(statistics.median(used[1:]), 3),
    }
    found["coreShare"] = round(found["cpuSeconds"] / PERIOD_SECONDS, 4)
    met = {name: found[name] <= target for name, target in TARGETS.items()}
    print(json.dumps({**found, "targets": TARGETS, "met": met}))
    sys.exit(not all(met.values()))


if __name__ == "__main__":
    main()
