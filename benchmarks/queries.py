"""What questions of dashboards and rules cost a Prometheus with a thousand runs, fifty of them active.

    python benchmarks/queries.py [--runs 1050] [--active 50] [--minutes 60] [--rounds 3]

The runs are those of metrics.py, told by the operator's own code every 30 s for an hour, and for each active
one a judge of four replicas. promtool makes blocks of that, and of what the recording rules find in them.
Prometheus answers each expression as Grafana and the rules ask it: about the end, or over the hour in 240
points. Time is that of an answer over HTTP, the median of the rounds. The last line is JSON.
Needs prometheus and promtool: PYTHONPATH=tests python -m cluster build prometheus.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cluster import binaries
from cluster.prometheus import prometheus
from grafana.prometheus import Source, Span
from metrics import START, fleet, go_on
from monitoring.asked import STEP_SECONDS, asked

from ixt_dashboards import foreign
from ixt_dashboards.expressions import Expression
from ixt_dashboards.recordings import INTERVAL_SECONDS, RECORDINGS, Recording
from ixt_operator.controller import exporter
from ixt_operator.controller.scrape import RunSeries

SCRAPE_SECONDS = 30
REPLICAS = 4
BUCKETS = 20
TARGET_SECONDS = 1.0
SHOWN = {"namespace": "default", "run": "run-0000"}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def write(file: Path, runs: int, active: int, times: list[float]) -> int:
    """Write what is told at these times as OpenMetrics; how many series that are at the last."""
    cluster, names, told = fleet(runs, active)
    refused: Counter[str] = Counter()
    series = RunSeries(cluster.cache, cluster.progress, {}, refused.update)
    exporter.leader.set(1)
    lines: list[str] = []
    with file.open("w") as written:
        for now in times:
            go_on(cluster, names, told, now)
            body, _ = exporter.exposition(lambda now=now: series.lines(now), OPENMETRICS)
            lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
            lines += (line for name in names for line in judge(name, now - START))
            written.writelines(f"{line} {now:.0f}\n" for line in lines)
        written.write("# EOF\n")
    assert not refused, refused
    return len(lines)


def judge(run: str, age: float) -> Iterator[str]:
    """Series of the metrics of vLLM that dashboards ask for."""
    for pod in range(REPLICAS):
        labels = f'run="{run}",stage="pretrain",namespace="default",pod="{run}-{pod}"'
        for name in foreign.NAMES:
            if name in foreign.HISTOGRAMS:
                for le in (*range(BUCKETS), "+Inf"):
                    yield f'{name}_bucket{{{labels},le="{le}"}} {age}'
                yield from (f"{name}_{part}{{{labels}}} {age}" for part in ("sum", "count"))
            elif name != foreign.ALERTS:
                yield f"{name}{{{labels}}} {age}"


def promtool(*arguments: str | Path) -> None:
    """Run promtool. Raises CalledProcessError."""
    command = [binaries.path("promtool"), "tsdb", "create-blocks-from", *arguments]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True)


def record(folder: Path, data: Path, recording: Recording, span: Span) -> None:
    """Add the series of a recording rule, which may ask for those of earlier ones."""
    file = folder / "rule.yaml"
    rule = {"record": recording.name, "expr": recording.expression}
    group = {"name": recording.name, "interval": f"{INTERVAL_SECONDS}s", "rules": [rule]}
    file.write_text(json.dumps({"groups": [group]}))
    with prometheus(folder, {}, data) as source:
        of = (f"--start={span.start:.0f}", f"--end={span.end:.0f}", f"--url={source.url}")
        promtool("rules", *of, f"--output-dir={data}", file)


def seconds(source: Source, question: Expression, span: Span) -> float:
    """How long an answer takes."""
    before = time.perf_counter()
    if question.instant:
        source.at(question.text, span.end)
    else:
        source.over(question.text, span, STEP_SECONDS)
    return time.perf_counter() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1050)
    parser.add_argument("--active", type=int, default=50)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    span = Span(START, START + arguments.minutes * 60)
    times = [START + at for at in range(0, arguments.minutes * 60 + 1, SCRAPE_SECONDS)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = folder / "data"
        print(f"telling of {arguments.runs} runs {len(times)} times", flush=True)
        series = write(folder / "told", arguments.runs, arguments.active, times)
        promtool("openmetrics", "--quiet", "--label=job=ixt", "--label=instance=a", folder / "told", data)
        (folder / "told").unlink()
        for each in RECORDINGS:
            record(folder, data, each, span)
        with prometheus(folder, {}, data) as source:
            questions = asked(source, span, SHOWN)
            took = {
                each.place: statistics.median(seconds(source, each, span) for _ in range(arguments.rounds))
                for each in questions
            }
    slowest = sorted(took, key=took.__getitem__, reverse=True)[:10]
    for place in slowest:
        print(f"{took[place]:.3f} s  {place}")
    found = {
        "runs": arguments.runs,
        "active": arguments.active,
        "series": series,
        "expressions": len(took),
        "slowest": slowest[0],
        "seconds": round(took[slowest[0]], 3),
        "median": round(statistics.median(took.values()), 4),
        "target": TARGET_SECONDS,
    }
    print(json.dumps(found))
    sys.exit(took[slowest[0]] > TARGET_SECONDS)


if __name__ == "__main__":
    main()
