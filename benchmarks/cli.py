"""The command line: how soon a manifest is checked, and how soon a finished run, run again, says that it is.

    python benchmarks/cli.py [--rounds 9] [--again 3]

`ixt --help` and `ixt validate examples/quickstart/run.yaml` from start to end, by processor time, in turns
with `python -c 'import pydantic'`, which nothing that checks with pydantic can beat. Then the quickstart's
run on stub steps, once to the end and `--again` times more: every step is cached then, and nothing but each
stage's Inventory, which looks whether that is so, may be started.
The last line is JSON: seconds of every round, the median ratio of `ixt validate` to the peer, and the steps
that the runs of a finished run started.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from make.cli import STUB  # noqa: E402 - needs tests/ on the path

MANIFEST = ROOT / "examples/quickstart/run.yaml"
IXT = Path(sys.executable).with_name("ixt")


def main() -> None:
    """Both measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--again", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {"help": [], "validate": [], "pydantic": []}
    commands = {
        "help": [str(IXT), "--help"],
        "validate": [str(IXT), "validate", str(MANIFEST)],
        "pydantic": [sys.executable, "-c", "import pydantic"],
    }
    for turn in range(-1, arguments.rounds):
        for who in sorted(commands, reverse=turn % 2 == 1):
            before = _processor()
            _seconds(commands[who])
            if turn >= 0:  # the round before the first warms the page cache
                found[who].append(round(_processor() - before, 3))
    ratios = [ours / peer for ours, peer in zip(found["validate"], found["pydantic"], strict=True)]
    for who in ("help", "validate"):
        print(f"{who} {statistics.median(found[who]):.3f} s", flush=True)
    first, again, started = _finished(arguments.again)
    print(f"first run {first:.2f} s, again {statistics.median(again):.2f} s, starting {', '.join(started)}")
    print(
        json.dumps(
            {
                "benchmark": "cli",
                **found,
                "load": os.getloadavg()[0],
                "ratio": statistics.median(ratios),
                "firstRun": first,
                "again": again,
                "startedAgain": started,
            }
        )
    )


def _finished(rounds: int) -> tuple[float, list[float], list[str]]:
    """Seconds of a run on stub steps, those of running it again, and which steps the latter started."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        roles = [{"name": role, "command": [*STUB]} for role in ("Judge", "Worker", "Trainer", "Evaluator")]
        runtime = {"apiVersion": "ixt.dev/v1alpha1", "kind": "IXTRuntime", "metadata": {"name": "cpu"}}
        (folder / "stubs.yaml").write_text(yaml.safe_dump({**runtime, "spec": {"roles": roles}}))
        work = folder / "work"
        (work / "volumes/ixt-quickstart").mkdir(parents=True)  # the claim that the manifest names
        command = [str(IXT), "run", str(MANIFEST), "-w", str(work), "--runtime", str(folder / "stubs.yaml")]
        env = {name: value for name, value in os.environ.items() if name != "IXT_PVC_ROOT"}
        first = _seconds(command, env)
        logs = {path: path.stat().st_size for path in (work / "logs").iterdir()}
        again = [_seconds(command, env) for _ in range(rounds)]
        grown = [path for path in (work / "logs").iterdir() if path.stat().st_size != logs.get(path)]
        # <run>-<stage>-<step>-<hash>-<attempt>-<index>
        return first, again, sorted({path.stem.rsplit("-", 3)[0] for path in grown})


def _processor() -> float:
    """Seconds that ended children have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(command: list[str], env: Mapping[str, str] | None = None) -> float:
    begun = time.perf_counter()
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout.decode()}")
    return seconds


if __name__ == "__main__":
    main()
