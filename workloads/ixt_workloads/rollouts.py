"""Figures of a model's own answers: how often it is right, and whether its answers collapse. Pure.

pass@k is the share of prompts that at least one of k answers solves, as estimated without bias from n >= k
answers of which c are right: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean
from typing import Any

ANSWERS = "held-out prompts"
"""The name under which a model's answers to held-out prompts stand beside its tasks: pass@1 as accuracy."""
NGRAMS = (1, 2, 4)
"""Lengths, in words, of the n-grams whose diversity is told."""
MOST_ITEMS = 4096
"""Prompts whose results are kept one by one, for intervals."""


@dataclass(frozen=True)
class Answered:
    """One answer, as far as figures need it."""

    prompt: str
    """Id of its prompt."""
    prefix: str
    """The feedback that was asked for."""
    completion: str
    right: bool
    score: float | None
    """Of the verifier, from 0 to 1; None where it came to no verdict."""
    cut: bool
    """It ended by the limit of tokens."""
    tokens: int


def pass_at(answers: int, right: int, k: int) -> float:
    """pass@k of one prompt by the unbiased estimate. Raises ValueError for fewer answers than k."""
    if not 0 <= right <= answers or not 1 <= k <= answers:
        raise ValueError(f"pass@{k} of {right} right answers of {answers}")
    return 1 - comb(answers - right, k) / comb(answers, k)


def ks_of(answers: int) -> list[int]:
    """The k for which pass@k is told: powers of two up to the number of answers, and that number."""
    return sorted({2**power for power in range(answers.bit_length()) if 2**power <= answers} | {answers})


def distinct(texts: Iterable[str], n: int) -> float | None:
    """How many of all n-grams of words are different ones, from 0 to 1; None where there are none."""
    runs: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = text.split()
        runs.update(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    return len(runs) / runs.total() if runs else None


def figures(answers: Sequence[Answered]) -> dict[str, dict[str, Any]]:
    """The figures of each prefix, as `evaluation.json` has them under `rollout`.

    A prompt with fewer answers than the others (its requests failed) counts with those that it has; pass@k
    is told for k up to the fewest. `items` has, prompt by prompt, the share of right answers.
    """
    by_prefix: dict[str, dict[str, list[Answered]]] = defaultdict(lambda: defaultdict(list))
    for each in answers:
        by_prefix[each.prefix][each.prompt].append(each)
    return {prefix: _figures(prompts) for prefix, prompts in by_prefix.items()}


def _figures(prompts: dict[str, list[Answered]]) -> dict[str, Any]:
    groups = [prompts[name] for name in sorted(prompts)]
    every = [each for group in groups for each in group]
    fewest = min(map(len, groups))
    right = [sum(each.right for each in group) for group in groups]
    shares = [count / len(group) for count, group in zip(right, groups, strict=True)]
    scores = [each.score for each in every if each.score is not None]
    # Diversity within a prompt: answers to different prompts differ anyway.
    diversity = {
        str(n): [
            found
            for group in groups
            if (found := distinct((each.completion for each in group), n)) is not None
        ]
        for n in NGRAMS
    }
    return {
        "prompts": len(groups),
        "answers": len(every),
        "passAt": {
            str(k): fmean(pass_at(len(group), count, k) for group, count in zip(groups, right, strict=True))
            for k in ks_of(fewest)
        },
        "meanScore": fmean(scores) if scores else None,
        "noVerdict": len(every) - len(scores),
        "meanTokens": fmean(each.tokens for each in every),
        "cut": fmean(each.cut for each in every),
        "empty": fmean(not each.completion.strip() for each in every),
        "distinct": {n: fmean(found) if found else None for n, found in diversity.items()},
        "sameAnswers": fmean(len({each.completion for each in group}) == 1 for group in groups),
        "items": [round(share, 6) for share in shares[:MOST_ITEMS]],
    }
