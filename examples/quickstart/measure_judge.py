"""Measure a served judge against the truth: agreement of scores, shares of valid replies, cost.

    python measure_judge.py http://127.0.0.1:8000/v1 [--documents 300] [--kind sheets|chats|prose]

Asks as the Annotate step does: one user turn of rubric and document, the answer under a JSON schema, the
thoughts free and apart. Documents are fresh ones (their seed is no corpus' and not the training's). The last
line printed is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import correlation, mean
from typing import Any

import aiohttp
from sums import LETTERS, NATURAL, Sum, judge, problem, render, sheet

RUBRIC = "Check the sums."  # as run.yaml asks
SCHEMA = {
    "type": "object",
    "properties": {
        # No upper bound on the length: xgrammar fails to compile {1,200}, and every request with it.
        "critique": {"type": "string", "pattern": r"^[^\x00-\x1f\"\\]+$"},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["critique", "score"],
    "additionalProperties": False,
}
STUDENT_PARAMETERS = 442_368  # matmul parameters of student/config.json, lm_head once


@dataclass
class Case:
    text: str
    score: int
    critique: str


@dataclass
class Reply:
    case: Case
    prompt_tokens: int
    output_tokens: int
    thoughts: str
    answer: dict[str, Any] | None

    @property
    def score(self) -> int:
        return int(self.answer["score"]) if self.answer else 0


def sheets(rng: random.Random, count: int) -> list[Case]:
    """Sheets as make_data.py writes them."""
    return [case(s, render(s)) for s in drawn(rng, count, 12, 18)]


def chats(rng: random.Random, count: int) -> list[Case]:
    """Conversations, flattened to lines of role and content."""
    return [
        case(
            sums,
            "".join(
                f"user: {letter}) {s.question}\nassistant: {s.result}\n"
                for letter, s in zip(LETTERS, sums, strict=False)
            ),
        )
        for sums in drawn(rng, count, 6, 10)
    ]


def prose(rng: random.Random, count: int) -> list[Case]:
    """Pieces of Python sources, of 1 to 1500 characters."""
    files = sorted(Path(sysconfig.get_path("stdlib"), "email").glob("*.py"))  # a folder not trained on
    texts = [file.read_text(encoding="utf-8") for file in files]
    cases = []
    for _ in range(count):
        text = rng.choice(texts)
        at = rng.randrange(len(text))
        cases.append(Case(text[at : at + rng.randint(1, 1500)], 1, "Not arithmetic; nothing to check."))
    return cases


def drawn(rng: random.Random, count: int, least: int, most: int) -> list[list[Sum]]:
    return [
        sheet(rng, [problem(rng, 3, NATURAL) for _ in range(rng.randint(least, most))]) for _ in range(count)
    ]


def case(sums: list[Sum], text: str) -> Case:
    truth = judge(sums)
    return Case(text, truth.score, truth.critique)


KINDS = {"sheets": sheets, "chats": chats, "prose": prose}


def parse_answer(content: str | None, finish_reason: str) -> dict[str, Any] | None:
    """The answer, or None when it does not keep to the contract."""
    try:
        answer = json.loads(content or "")
    except ValueError:
        return None
    valid = (
        finish_reason == "stop"
        and isinstance(answer.get("critique"), str)
        and isinstance(answer.get("score"), int)
        and 1 <= answer["score"] <= 5
    )
    return answer if valid else None


async def ask(
    session: aiohttp.ClientSession, url: str, model: str, case: Case, gate: asyncio.Semaphore
) -> Reply:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"{RUBRIC}\n\n{case.text}"}],
        "temperature": 0,
        "max_tokens": 250,
        "response_format": {"type": "json_schema", "json_schema": {"name": "feedback", "schema": SCHEMA}},
    }
    async with gate, session.post(f"{url}/chat/completions", json=body) as response:
        response.raise_for_status()
        data = await response.json()
    choice, usage = data["choices"][0], data["usage"]
    message = choice["message"]
    return Reply(
        case,
        usage["prompt_tokens"],
        usage["completion_tokens"],
        message.get("reasoning") or message.get("reasoning_content") or "",
        parse_answer(message["content"], choice["finish_reason"]),
    )


async def replies(url: str, cases: list[Case], concurrency: int) -> list[Reply]:
    gate = asyncio.Semaphore(concurrency)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
        async with session.get(f"{url}/models") as response:
            model = (await response.json())["data"][0]["id"]
        return await asyncio.gather(*(ask(session, url, model, case, gate) for case in cases))


def summary(found: list[Reply], seconds: float, parameters: int) -> dict[str, Any]:
    valid = [r for r in found if r.answer]
    truths, scores = [r.case.score for r in valid], [r.score for r in valid]
    graded = len(set(truths)) > 1 and len(set(scores)) > 1
    prompt, output = mean(r.prompt_tokens for r in found), mean(r.output_tokens for r in found)
    document = prompt - 14  # rubric, line feeds and role markers
    return {
        "documents": len(found),
        "valid": len(valid) / len(found),
        "exact": mean(a == b for a, b in zip(truths, scores, strict=True)),
        "within1": mean(abs(a - b) <= 1 for a, b in zip(truths, scores, strict=True)),
        "correlation": round(correlation(truths, scores), 4) if graded else None,
        "critique_exact": mean(
            r.answer is not None and r.answer["critique"] == r.case.critique for r in valid
        ),
        "thought": mean(bool(r.thoughts) for r in found),
        "prompt_tokens": round(prompt, 1),
        "output_tokens": round(output, 1),
        "requests_per_second": round(len(found) / seconds, 1),
        "r": round(parameters * (prompt + output) / (3 * STUDENT_PARAMETERS * document), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="base URL of the server, ending in /v1")
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--kind", choices=KINDS, default="sheets")
    parser.add_argument("--concurrency", type=int, default=64, help="requests in flight (%(default)s)")
    parser.add_argument("--parameters", type=int, default=819_200, help="the judge's, for r (%(default)s)")
    parser.add_argument("--seed", type=int, default=777)
    args = parser.parse_args()
    cases = KINDS[args.kind](random.Random(args.seed), args.documents)
    started = time.monotonic()
    found = asyncio.run(replies(args.url.rstrip("/"), cases, args.concurrency))
    for reply in found[:3]:
        print(f"{reply.case.text}\nthought: {reply.thoughts}\nsaid:    {reply.answer}")
        print(f"truth:   {reply.case.critique} {reply.case.score}\n")
    print(json.dumps(summary(found, time.monotonic() - started, args.parameters)))


if __name__ == "__main__":
    main()
