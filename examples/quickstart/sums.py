"""The world of the quickstart: documents of sums, the ways they go wrong, and the truth about them.

Digits are written ones first (47 + 85 = 132 reads `74+58=231`), because a tiny model that writes a sum in
the order in which carries travel learns it in minutes. A document is an exercise sheet, one lettered sum a
line. Most sheets follow a wrong rule as faithfully as the good ones follow the right one: the wrong rules
outnumber it, so a model that only imitates the mixture learns to drop carries, and a model that knows which
sheets are good does not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
EVEN = (1,) * 10
# As in numbers that people write down, small digits are more frequent. It also is what gets a model started:
# of even digits, a sum's digit tells nothing until both of them are known.
NATURAL = (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)
RIGHT = "right"
# The wrong rules, with how a critique calls them. "slip" is any other wrong result.
RULES = {
    "carry": "Carries are dropped",
    "high": "One digit is one too high",
    "swap": "Results are written backwards",
    "copy": "The first number is copied",
    "slip": "Results have wrong digits",
}
# How often a sheet follows each rule, in percent; the remainder is clean.
SHARES = {"carry": 62, "high": 3, "swap": 2, "copy": 2, "slip": 1}
# A sheet's rate of errors, in percent, drawn from these: faithful to the wrong rule as a rule.
RATES = (100,) * 8 + (60, 20)


@dataclass(frozen=True)
class Sum:
    """One line of a sheet: two numbers and the result as the sheet has it, all written ones first."""

    left: str
    right: str
    result: str

    @property
    def question(self) -> str:
        return f"{self.left}+{self.right}="

    @property
    def truth(self) -> str:
        return add(self.left, self.right)

    @property
    def verdict(self) -> str:
        """RIGHT, or the rule that explains the result."""
        if self.result == self.truth:
            return RIGHT
        if self.result == add(self.left, self.right, carries=False):
            return "carry"
        if self.result == self.left:
            return "copy"
        if self.result == self.truth[::-1]:
            return "swap"
        return "high" if self.result in too_high(self.truth) else "slip"


def add(left: str, right: str, carries: bool = True) -> str:
    """The sum of two equally long numbers written ones first; without carries, column by column."""
    digits, carry = [], 0
    for a, b in zip(left, right, strict=True):
        carry, digit = divmod(int(a) + int(b) + (carry if carries else 0), 10)
        digits.append(str(digit))
    return "".join(digits) + ("1" if carry and carries else "")


def too_high(result: str) -> list[str]:
    """Every result that has exactly one digit one too high (nines stay)."""
    return [result[:i] + str(int(d) + 1) + result[i + 1 :] for i, d in enumerate(result) if d != "9"]


def problem(rng: random.Random, digits: int, weights: Sequence[int] = EVEN) -> tuple[str, str]:
    """Two numbers of so many digits, written ones first; `weights`: how often each digit stands in them."""

    def number() -> str:
        first = rng.choices(DIGITS[1:], weights[1:])
        return "".join(rng.choices(DIGITS, weights, k=digits - 1) + first)

    return number(), number()


def solve(rng: random.Random, left: str, right: str, rule: str) -> Sum:
    """The sum as a sheet has it that follows this rule; RIGHT is a rule too."""
    truth = add(left, right)
    if rule == "carry":
        result = add(left, right, carries=False)
    elif rule == "high":
        result = rng.choice(too_high(truth) or [truth])
    elif rule == "swap":
        result = truth[::-1]
    elif rule == "copy":
        result = left
    elif rule == "slip":
        at = rng.randrange(len(truth))
        result = truth[:at] + str((int(truth[at]) + rng.randrange(2, 9)) % 10) + truth[at + 1 :]
    else:
        result = truth
    return Sum(left, right, result)


def draw_rule(rng: random.Random, shares: dict[str, int]) -> str:
    at = rng.randrange(100)
    for rule, share in shares.items():
        at -= share
        if at < 0:
            return rule
    return RIGHT


def sheet(
    rng: random.Random,
    problems: list[tuple[str, str]],
    shares: dict[str, int] = SHARES,
    rates: tuple[int, ...] = RATES,
) -> list[Sum]:
    """A sheet: clean, or following one wrong rule at one rate."""
    rule, rate = draw_rule(rng, shares), rng.choice(rates)
    return [solve(rng, a, b, rule if rng.randrange(100) < rate else RIGHT) for a, b in problems]


def render(sums: list[Sum], first: int = 0) -> str:
    """The document: `a) 74+58=231`, one a line, ending in a line feed."""
    return "".join(f"{LETTERS[first + i]}) {s.question}{s.result}\n" for i, s in enumerate(sums))


@dataclass(frozen=True)
class Truth:
    """What a perfect judge says of a sheet."""

    right: int
    total: int
    rule: str

    @property
    def score(self) -> int:
        """1 to 5: all right, at least 80 %, 50 %, 20 %, fewer."""
        if self.right == self.total:
            return 5
        return 1 + sum(100 * self.right >= bound * self.total for bound in (20, 50, 80))

    @property
    def critique(self) -> str:
        if self.right == self.total:
            return "All sums are right."
        wrong = self.total - self.right
        often = next(
            word
            for word, bound in (("every sum", 100), ("most sums", 50), ("some sums", 20), ("few sums", 0))
            if 100 * wrong >= bound * self.total
        )
        return f"{RULES[self.rule]} in {often}; {self.right} of {self.total} right."


def judge(sums: list[Sum]) -> Truth:
    """The truth about a sheet: how many are right, and the commonest error (of RULES the first on a tie)."""
    verdicts = Counter(s.verdict for s in sums)
    rule = max(RULES, key=lambda name: verdicts[name])
    return Truth(verdicts[RIGHT], len(sums), rule)
