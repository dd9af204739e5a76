"""Bytes and text that somebody else wrote and that may be hostile: read within bounds, shown without harm."""

import json
import re
import zlib
from array import array
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import from_json

MAX_JSON_BYTES = 64 * 1024
"""Of a document that a pod, a judge or a claim tells, unless its reader says otherwise."""

MAX_LEVELS = 100
"""Of an API server's answer: what lies deeper is left out."""

_STRING = re.compile(rb'(?s)"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_STEPS = bytes({b"[": 1, b"{": 1, b"]": 255, b"}": 255}.get(bytes([each]), 0) for each in range(256))
"""How a byte outside of strings changes the level; 255 is -1."""
_OTHERS = bytes(each for each in range(256) if not _STEPS[each])
_BLOCK = 8 * 1024
_SPACE = re.compile(r"[ \t\r\n]*")
_scan = json.JSONDecoder().raw_decode

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Control characters other than tab and newline (C0, DEL, C1; commands to terminals begin with ESC),
characters without width, those that change the direction of a text, and halves of surrogate pairs."""

_COMMAND = re.compile(
    # CSI: colours, cursor, screen.
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    # OSC, DCS and others with a text: title, links, clipboard.
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]{0,8}[0-~]"
)
"""A command to a terminal with its parameters (ECMA-48)."""


def json_of(content: str | bytes | bytearray, most: int = MAX_JSON_BYTES) -> Any:
    """The value of a JSON text. Raises ValueError for what is none, has more than `most` bytes, or is nested
    deeper than 200 levels: nothing is built of that, and the parser does not recurse further."""
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes of JSON")
    return from_json(content)


def shallow(content: bytes) -> bytes:
    """A JSON text of any depth with null in place of what lies deeper than MAX_LEVELS levels; as it is where
    nothing is nested deeper than parsers take. An API server keeps objects of thousands of levels."""
    try:
        from_json(content)
    except ValueError as error:
        return _cut(content) if "recursion" in str(error) else content
    return content


def answer_of(content: bytes) -> Any:
    """The value of an API server's answer, of any depth, `shallow`. Raises ValueError for what is none."""
    try:
        return from_json(content)
    except ValueError as error:
        if "recursion" not in str(error):
            raise
    return from_json(_cut(content))


def _cut(content: bytes) -> bytes:
    kept, begins = [], 0
    for start, end in _deep(_STRING.sub(lambda found: bytes(len(found[0])), content)):
        kept += [content[begins:start], b"null"]
        begins = end
    return b"".join([*kept, content[begins:]])


def _deep(blank: bytes) -> Iterator[tuple[int, int]]:
    """What lies deeper than MAX_LEVELS in a JSON text without strings, as pairs of places. It is read in
    blocks, since other threads wait for each; of most only the deepest level is asked."""
    level, start = 0, -1
    for at in range(0, len(blank), _BLOCK):
        block = blank[at : at + _BLOCK]
        steps = array("b", block.translate(_STEPS, _OTHERS))
        if start >= 0 or max(accumulate(steps, initial=level)) > MAX_LEVELS:
            levels = accumulate(array("b", block.translate(_STEPS)), initial=level)
            deeper, place = bytes(map(MAX_LEVELS.__lt__, levels))[1:], 0
            while (place := deeper.find(0 if start >= 0 else 1, place)) >= 0:
                if start >= 0:
                    yield start, at + place + 1
                    start = -1
                else:
                    start = at + place
        level += sum(steps)
    if start >= 0:
        yield start, len(blank)


def values_of(content: bytes) -> int:
    """How many values a JSON text has, about: not fewer. The smallest take three bytes of the text and a
    hundred of memory."""
    return sum(map(content.count, (b",", b"[", b"{")))


def listed(content: bytes, take: Callable[[Any], Any]) -> Any:
    """The value of a list of an API server, of whose items what `take` makes of each is kept before the next
    is built. Raises ValueError for what is no JSON object."""
    content = _cut(content)
    text = content.decode("latin-1")  # a character for each byte
    found: dict[str, Any] = {}

    def built(at: int) -> tuple[Any, int]:
        end = _scan(text, at)[1]
        return from_json(content[at:end]), _after_space(text, end)

    try:
        at = _after_space(text, text.index("{") + 1)
        while text[at] != "}":
            name, at = _scan(text, at)
            at = _after_space(text, _after_space(text, at) + 1)
            if name == "items" and text[at] == "[":
                found[name], at = [], _after_space(text, at + 1)
                while text[at] != "]":
                    item, at = built(at)
                    found[name].append(take(item))
                    del item
                    at = _after_space(text, at + 1) if text[at] == "," else at
                at = _after_space(text, at + 1)
            else:
                found[name], at = built(at)
            at = _after_space(text, at + 1) if text[at] == "," else at
    except (IndexError, TypeError):
        raise ValueError("its end is missing, or the name of a field is no text") from None
    return found


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def gunzipped(content: bytes, most: int) -> bytes:
    """What gzip packed. Raises ValueError for what is no whole gzip or becomes more than `most` bytes, of
    which no more is unpacked."""
    unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = unpacking.decompress(content, most + 1)
    except zlib.error as error:
        raise ValueError(f"it is no gzip: {error}") from None
    if len(found) > most:
        raise ValueError(f"more than {most:,} bytes when unpacked")
    if not unpacking.eof:
        raise ValueError("its end is missing")
    return found


def plain(text: str) -> str:
    """A text as a terminal, an event or a page may show it: without commands to terminals, control characters
    and what reorders or hides text. Tabs and newlines stay."""
    text = text.replace("\r\n", "\n")
    return _UNSEEN.sub("", _COMMAND.sub("", text))


Text = Annotated[str, AfterValidator(plain)]
"""A field that people read, whoever wrote it (`plain`)."""
