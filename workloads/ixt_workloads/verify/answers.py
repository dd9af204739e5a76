"""What a model's answer is, in all that it said. Pure."""

import json
import re
from collections import deque
from typing import Any

from ixt_workloads.contract.verifiers import Verifier

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?:\s*/\s*\d+|\s*%)?")
_FENCED = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_MARKED = re.compile(r"####[ \t]*([^\n]+)")


def answer_of(verifier: Verifier, completion: str) -> str | None:
    """The answer by verifier.extract, else all that follows the reasoning; None where nothing matches."""
    if verifier.extract is None:
        return after_reasoning(completion).strip()
    matches = deque(re.finditer(verifier.extract, completion, re.MULTILINE), maxlen=1)
    if not matches:
        return None
    last = matches.pop()
    return (last.group(1) if last.re.groups else last.group(0) or "").strip()


def after_reasoning(completion: str) -> str:
    """What was said after reasoning in <think> tags, or all where there is none."""
    return completion.rpartition("</think>")[2]


def number_in(text: str) -> float | None:
    """The number that an answer gives: in the last \\boxed{}, else after the last ####, else the last one."""
    for part in (boxed(text), last_of(_MARKED, text), text):
        if part is not None and (found := _NUMBER.findall(part)):
            return number(found[-1])
    return None


def number(text: str) -> float | None:
    """A number as people write it: 1,234.5, 3/4, 12 %, 1e-3; None for what is none."""
    plain = text.replace(",", "").strip().lstrip("$").strip()
    percent = plain.endswith("%")
    top, _, below = plain.rstrip("%").partition("/")
    try:
        value = float(top) / (float(below) if below else 1)
    except (ValueError, ZeroDivisionError):
        return None
    return value / 100 if percent else value


def boxed(text: str) -> str | None:
    """What stands in the last \\boxed{}, whose braces may hold others."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + 7 : place]
    return None


def fenced(text: str, languages: tuple[str, ...] = ()) -> str | None:
    """The last fenced block, of these languages if there is one of them."""
    found = [(match.group(1).lower(), match.group(2)) for match in _FENCED.finditer(text)]
    of_language = [body for language, body in found if language in languages]
    return next(reversed(of_language or [body for _, body in found]), None)


def last_of(pattern: re.Pattern[str], text: str) -> str | None:
    """The last match's first group."""
    found = pattern.findall(text)
    return found[-1] if found else None


def texts_of(reference: Any) -> list[str]:
    """The reference as texts: several where it is a list, any of which will do."""
    several = reference if isinstance(reference, list) else [reference]
    return [each if isinstance(each, str) else json.dumps(each) for each in several]


def same_words(one: str, other: str) -> bool:
    """Whether two texts are the same but for white space."""
    return one.split() == other.split()
