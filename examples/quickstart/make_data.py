"""Fill the quickstart's volume: a corpus of mixed quality, conversations of mixed quality, tasks, and models.

    python make_data.py VOLUME [--documents 10000] [--seed 0]

data/corpus.jsonl.gz  {"text", "truth"}       exercise sheets for pre-training
data/sft.jsonl        {"messages", "truth"}   the same sums as questions and answers
data/tasks/*.jsonl    {"prompt", "answer"}    sums that no document and no conversation contains: `carry`
                                              needs at least one carry, `plain` needs none
data/prompts.jsonl    {"prompt", "answer"}    sums that nothing above contains, to answer and learn from
                                              (rollout.yaml)
judge, student        copies of the folders beside this script

Three sheets in ten are right throughout, most others drop every carry, a few follow other wrong rules; rates
vary, so quality comes in grades. `truth` is for measuring the judge: training on it would be cheating.
The same arguments write the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from sums import LETTERS, NATURAL, Truth, add, judge, problem, render, sheet

Problem = tuple[str, str]


def truth_record(truth: Truth) -> dict[str, object]:
    return {"score": truth.score, "errors": truth.total - truth.right, **asdict(truth)}


def held_out(rng: random.Random, digits: int, count: int) -> dict[str, list[Problem]]:
    """Problems for the tasks, `count` that need a carry and `count` that do not."""
    tasks: dict[str, dict[Problem, None]] = {"carry": {}, "plain": {}}
    while any(len(found) < count for found in tasks.values()):
        left, right = problem(rng, digits, NATURAL)
        name = "plain" if add(left, right) == add(left, right, carries=False) else "carry"
        if len(tasks[name]) < count:
            tasks[name][left, right] = None
    return {name: list(found) for name, found in tasks.items()}


class Problems:
    """Draws problems, none of them a task's, and remembers them."""

    def __init__(self, rng: random.Random, digits: int, tasks: Iterable[Problem]) -> None:
        self._rng, self._digits = rng, digits
        self._tasks = {*tasks}
        self._drawn = {*self._tasks}

    def some(self, count: int) -> list[Problem]:
        """So many problems; one may come several times."""
        return [self._one(self._tasks) for _ in range(count)]

    def new(self, count: int) -> list[Problem]:
        """So many problems, none of which was drawn before."""
        return [self._one(self._drawn) for _ in range(count)]

    def _one(self, but: set[Problem]) -> Problem:
        while (found := problem(self._rng, self._digits, NATURAL)) in but:
            pass
        self._drawn.add(found)
        return found


def corpus(rng: random.Random, args: argparse.Namespace, problems: Problems) -> Iterator[dict[str, object]]:
    for _ in range(args.documents):
        sums = sheet(rng, problems.some(rng.randint(args.min_sums, args.max_sums)))
        yield {"text": render(sums), "truth": truth_record(judge(sums))}


def conversations(
    rng: random.Random, args: argparse.Namespace, problems: Problems
) -> Iterator[dict[str, object]]:
    for _ in range(args.conversations):
        sums = sheet(rng, problems.some(rng.randint(args.min_turns, args.max_turns)))
        messages = [
            message
            for letter, s in zip(LETTERS, sums, strict=False)
            for message in (
                {"role": "user", "content": f"{letter}) {s.question}"},
                {"role": "assistant", "content": s.result},
            )
        ]
        yield {"messages": messages, "truth": truth_record(judge(sums))}


def questions(problems: Iterable[Problem]) -> Iterator[dict[str, object]]:
    return ({"prompt": f"a) {left}+{right}=", "answer": add(left, right)} for left, right in problems)


def write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """JSON lines, gzipped (without a time stamp, so that bytes repeat) when the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("volume", type=Path, help="folder that the run's claim holds")
    parser.add_argument("--documents", type=int, default=10_000, help="sheets in the corpus (%(default)s)")
    parser.add_argument("--min-sums", type=int, default=12, help="fewest sums on a sheet (%(default)s)")
    parser.add_argument(
        "--max-sums", type=int, default=18, help="most sums on a sheet, up to 26 (%(default)s)"
    )
    parser.add_argument("--conversations", type=int, default=4_000, help="in sft.jsonl (%(default)s)")
    parser.add_argument("--min-turns", type=int, default=6, help="fewest questions in one (%(default)s)")
    parser.add_argument("--max-turns", type=int, default=10, help="most questions in one (%(default)s)")
    parser.add_argument("--tasks", type=int, default=200, help="problems a task file (%(default)s)")
    parser.add_argument("--prompts", type=int, default=2_560, help="in prompts.jsonl (%(default)s)")
    parser.add_argument(
        "--digits", type=int, default=3, help="digits a number; the judge knows 3 (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse()
    rng = random.Random(args.seed)
    tasks = held_out(rng, args.digits, args.tasks)
    problems = Problems(rng, args.digits, chain.from_iterable(tasks.values()))
    data = args.volume / "data"
    write(data / "corpus.jsonl.gz", corpus(rng, args, problems))
    write(data / "sft.jsonl", conversations(rng, args, problems))
    write(data / "prompts.jsonl", questions(problems.new(args.prompts)))
    for name, found in tasks.items():
        write(data / "tasks" / f"{name}.jsonl", questions(found))
    for model in ("judge", "student"):
        # Contents alone: a volume may allow neither modes nor times to be set.
        shutil.copytree(
            Path(__file__).with_name(model),
            args.volume / model,
            copy_function=shutil.copyfile,
            dirs_exist_ok=True,
        )
    print(f"{args.documents} documents, {args.conversations} conversations, {2 * args.tasks} tasks in {data}")


if __name__ == "__main__":
    main()
