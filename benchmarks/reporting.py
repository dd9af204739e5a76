"""What reporting costs a training step and an annotation client.

    python benchmarks/reporting.py [--rounds 10] [--steps 8] [--documents 400]

Training: the loop of the Train step, one rank on one thread in this process, with the model and data of the
training benchmark's size 1M, its progress passed on through a file as to a launcher. Annotation: the client
of the Annotate step in this process, against a double of a judge in another one that answers at once, so that
there is nothing but the client's own work. Rounds with reporting and rounds in which all of it does nothing
alternate, and are compared by this process's processor time ("ratio", on to off, the median of the rounds). A
machine that others use makes that vary by more than reporting costs: "share" is what the calls of reporting
themselves took, by the same clock, of the rounds that had them. The last line is JSON.
"""

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import annotate as annotation
import torch
import torch.distributed as dist
import train as training

from ixt_workloads.progress import Reporter
from ixt_workloads.steps.annotate.rows import Tally
from ixt_workloads.steps.annotate.work import Work
from ixt_workloads.steps.train import exchange, worker
from ixt_workloads.steps.train.meter import Meter

CALLS = {
    Reporter: {"update": None, "set": None, "add": None, "tell": None, "saved": None, "waited": None},
    Meter: {"mark": None, "stepped": False, "evaluated": None},
    Tally: {"figures": {}},
    Work: {"_tell": None},
    exchange: {"write": None},
}
"""All that reporting consists of, and what each answers where it does nothing."""


class Round:
    """Processor seconds of a round, and of the calls of reporting in it."""

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self.seconds = 0.0
        self.reporting = 0.0
        self._depth = 0

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measure what happens, with reporting or without it."""
        with contextlib.ExitStack() as stack:
            for owner, names in CALLS.items():
                for name, answer in names.items():
                    call = self._timed(getattr(owner, name)) if self.on else _silent(answer)
                    stack.enter_context(patch.object(owner, name, call))
            start = time.process_time()
            yield
            self.seconds = time.process_time() - start

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            self._depth += 1
            start = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.reporting += time.thread_time() - start

        return timed


def _silent(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


class Enough(Exception):  # noqa: N818
    """Leaves the training."""


def train(rounds: int, steps: int) -> list[Round]:
    """Rounds of so many steps, on and off in turn."""
    torch.set_num_threads(1)
    found = [Round(on=(number + number // 2) % 2 == 0) for number in range(2 * rounds)]
    left, stack = training.WARMUP, contextlib.ExitStack()
    begun = iter(found)
    reporter = Reporter()
    with tempfile.TemporaryDirectory() as place:
        folder, size = Path(place), training.SIZES["1M"]
        training.write_data(folder, size)
        pass_on = worker._passing_on(folder, reporter)

        def end_of_step() -> None:
            nonlocal left
            pass_on()
            left -= 1
            if left == 0:
                stack.close()
                following = next(begun, None)
                if following is None:
                    raise Enough
                left = steps
                stack.enter_context(following.measured())

        with contextlib.suppress(Enough):
            training.ours(folder, "0" * 32, size.batch, 1, "FP32", False, end_of_step, reporter)
        dist.destroy_process_group()
    return found


def annotate(rounds: int, documents: int) -> list[Round]:
    """Rounds of so many documents, on and off in turn, after one that is not measured."""
    found = [Round(on=(number + number // 2) % 2 == 0) for number in range(2 * rounds)]
    folder = annotation.markov_judge().resolve()
    double = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert double.stdout
    url = double.stdout.readline().strip()
    for number, each in enumerate([Round(on=True), *found]):
        texts = annotation.texts_of(documents, str(number))
        with each.measured(), contextlib.redirect_stderr(io.StringIO()):
            annotation.ours(folder, url, texts)
    double.communicate()
    return found


def serve() -> None:
    """A double of a judge, until nobody wants it any more."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from make.judge import Double

    with Double() as double:
        print(double.url, flush=True)
        sys.stdin.read()


def main() -> None:
    """Both, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8, help="of a round of training")
    parser.add_argument("--documents", type=int, default=400, help="of a round of annotation")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    told = {}
    for name, found in (
        ("training", train(arguments.rounds, arguments.steps)),
        ("annotation", annotate(arguments.rounds, arguments.documents)),
    ):
        on, off = ([each for each in found if each.on is wanted] for wanted in (True, False))
        ratios = [with_it.seconds / without.seconds for with_it, without in zip(on, off, strict=True)]
        share = sum(each.reporting for each in on) / sum(each.seconds for each in on)
        told[name] = {"ratio": statistics.median(ratios), "ratios": ratios, "share": share}
        print(f"{name}: ratio {told[name]['ratio']:.4f}, share {100 * share:.3f} %", flush=True)
    print(json.dumps({"benchmark": "reporting", **told}))


if __name__ == "__main__":
    main()
