"""What the logs of pods say to people: steps write one JSON object a line in a cluster. Pure."""

import re
from datetime import datetime

from ixt_workloads.contract.foreign import json_of, plain

_WORDS = ("message", "exception")
MAX_LINE = 2**20
"""Bytes of a line of a log that are read as JSON."""
_CUT = re.compile(r'(?:.*": ")?(?P<text>.*)"\}')
"""The end of a line whose beginning is lost: what stands in its last string. Quotes within are escaped."""


def readable(log: str) -> str:
    """Lines of a log with the messages and exceptions in place of their JSON, without what a terminal would
    take for a command; others are left as they are.

    Of a tail the first line may lack its beginning.
    """
    first, *rest = log.splitlines() or [""]
    return plain("\n".join((_line(first, cut=True), *map(_line, rest))))


def shown(line: str) -> str:
    """A line that `kubectl logs --prefix` prints, for people: of an object time, level and message, behind
    the pod."""
    pod, brace, rest = line.partition("{")
    try:
        found = json_of(brace + rest, MAX_LINE)
        time = datetime.fromisoformat(found["time"]).astimezone().strftime("%H:%M:%S")
        text = f"{pod}{time} {found['level']} {found['message']}"
    except (ValueError, LookupError, TypeError):
        return plain(line)
    return plain(f"{text}\n{found['exception']}" if found.get("exception") else text)


def _line(line: str, *, cut: bool = False) -> str:
    try:
        found = json_of(line)
    except ValueError:
        left = _CUT.fullmatch(line) if cut else None
        return _unescaped(left["text"]) if left else line
    if not isinstance(found, dict) or not isinstance(found.get("message"), str):
        return line
    return "\n".join(str(found[name]) for name in _WORDS if found.get(name))


def _unescaped(text: str) -> str:
    """The rest of a JSON string. It may begin within an escape, of at most six characters."""
    for start in range(min(6, len(text))):
        try:
            return str(json_of(f'"{text[start:]}"'))
        except ValueError:
            continue
    return text
