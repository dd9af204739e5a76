"""The quickstart's judge against the truth, on documents that neither its training nor a corpus has seen.

    python benchmarks/judge.py [--documents 300] [--judge FOLDER]

Asks the judge of examples/quickstart/run.yaml, served by vLLM, as the Annotate step does. The last line is
JSON; of every kind of document: shares of valid replies, of scores that are exact and within one, the
correlation of scores with the truth, the share of critiques that are right to the letter, and tokens.
"""

import argparse
import asyncio
import json
import random
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import correlation, mean
from typing import Any

import aiohttp
import yaml
from annotate import served

from ixt_operator.api.run import IXTRun
from ixt_operator.planner.spec import judge_of
from ixt_workloads.contract.settings import Judge
from ixt_workloads.data.chat import as_text
from ixt_workloads.feedback.answers import Feedback, Rejected, parse
from ixt_workloads.steps.annotate.judging import request

QUICKSTART = Path(__file__).parents[1] / "examples/quickstart"
sys.path.insert(0, str(QUICKSTART))
import sums  # noqa: E402 - the example's own module, not a package

CONCURRENCY = 64
SEED = 777  # make_data.py and train_judge.py draw with others


@dataclass(frozen=True)
class Case:
    """A document and what a perfect judge says of it."""

    text: str
    score: int
    critique: str


@dataclass(frozen=True)
class Reply:
    """What the judge said, and its cost in tokens."""

    case: Case
    answer: Feedback | Rejected
    thought: bool
    prompt_tokens: int
    output_tokens: int


def sheets(dice: random.Random, count: int) -> list[Case]:
    """Sheets as in the corpus."""
    return [_case(drawn, sums.render(drawn)) for drawn in _drawn(dice, count, 12, 18)]


def chats(dice: random.Random, count: int) -> list[Case]:
    """Conversations as in sft.jsonl, written as a judge reads them."""
    cases = []
    for drawn in _drawn(dice, count, 6, 10):
        turns = []
        for letter, one in zip(sums.LETTERS, drawn, strict=False):
            turns.append({"role": "user", "content": f"{letter}) {one.question}"})
            turns.append({"role": "assistant", "content": one.result})
        cases.append(_case(drawn, as_text(turns)))
    return cases


def prose(dice: random.Random, count: int) -> list[Case]:
    """Pieces of Python sources, of 1 to 1500 characters: no arithmetic."""
    files = sorted(Path(sysconfig.get_path("stdlib"), "email").glob("*.py"))  # a folder not trained on
    texts = [file.read_text(encoding="utf-8") for file in files]
    cases = []
    for _ in range(count):
        text = dice.choice(texts)
        start = dice.randrange(len(text))
        cases.append(
            Case(text[start : start + dice.randint(1, 1500)], 1, "Not arithmetic; nothing to check.")
        )
    return cases


KINDS = {"sheets": sheets, "chats": chats, "prose": prose}


def _drawn(dice: random.Random, count: int, least: int, most: int) -> list[list[sums.Sum]]:
    return [
        sums.sheet(dice, [sums.problem(dice, 3, sums.NATURAL) for _ in range(dice.randint(least, most))])
        for _ in range(count)
    ]


def _case(drawn: list[sums.Sum], text: str) -> Case:
    truth = sums.judge(drawn)
    return Case(text, truth.score, truth.critique)


async def ask(url: str, judge: Judge, cases: list[Case]) -> list[Reply]:
    """All cases, so many at a time; each once: no answer gets a second chance."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(case: Case) -> Reply:
        body = {"model": "judge", **request(judge, case.text)}
        async with gate, session.post(f"{url}/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            said = await response.json()
        choice, usage = said["choices"][0], said["usage"]
        answer = parse(choice["message"]["content"], choice["finish_reason"], judge.rubric)
        thought = bool(choice["message"].get("reasoning"))
        return Reply(case, answer, thought, usage["prompt_tokens"], usage["completion_tokens"])

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
        return await asyncio.gather(*map(one, cases))


def agreement(replies: list[Reply]) -> dict[str, Any]:
    """How far the replies agree with the truth; invalid ones count against it."""
    valid = [(reply.case, reply.answer) for reply in replies if isinstance(reply.answer, Feedback)]
    truths, scores = [case.score for case, _ in valid], [answer.score for _, answer in valid]
    graded = len(set(truths)) > 1 and len(set(scores)) > 1
    count = len(replies)
    return {
        "documents": count,
        "valid": round(len(valid) / count, 3),
        "exact": round(sum(a == b for a, b in zip(truths, scores, strict=True)) / count, 3),
        "withinOne": round(sum(abs(a - b) <= 1 for a, b in zip(truths, scores, strict=True)) / count, 3),
        "correlation": round(correlation(truths, scores), 3) if graded else None,
        "critiqueExact": round(sum(answer.critique == case.critique for case, answer in valid) / count, 3),
        "thought": round(mean(reply.thought for reply in replies), 3),
        "promptTokens": round(mean(reply.prompt_tokens for reply in replies), 1),
        "outputTokens": round(mean(reply.output_tokens for reply in replies), 1),
    }


def main() -> None:
    """Serve, ask, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=300, help="of each kind (%(default)s)")
    parser.add_argument("--judge", type=Path, default=QUICKSTART / "judge", help="model folder")
    arguments = parser.parse_args()
    run = IXTRun.model_validate(yaml.safe_load((QUICKSTART / "run.yaml").read_text(encoding="utf-8")))
    judge = judge_of(run)
    if judge is None:
        raise SystemExit("the quickstart has no judge")
    judge = judge.model_copy(update={"source": f"file://{arguments.judge.resolve()}"})
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place, served(judge, Path(place)) as url:
        for kind, draw in KINDS.items():
            started = time.monotonic()
            replies = asyncio.run(ask(url, judge, draw(random.Random(SEED), arguments.documents)))
            print(f"{kind}: {len(replies) / (time.monotonic() - started):.1f} documents/s")
            for reply in replies[:2]:
                truth = f"{reply.case.critique} {reply.case.score}"
                print(f"\n{reply.case.text}\nsaid:  {reply.answer}\ntruth: {truth}")
            found[kind] = agreement(replies)
    print(json.dumps({"benchmark": "judge", **found}))


if __name__ == "__main__":
    main()
