"""YAML as the API server understands it: read with the line of every field, and written."""

import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import yaml

from ixt_operator.api.rules import FieldPath

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **{sign + word: math.nan for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"^([-+]?0)(?=[0-7])")

MAX_DEPTH = 64
"""Levels of mappings and sequences in a document: a pod's template has about twenty."""
MAX_DOCUMENTS = 256
"""Documents of one text."""

_DIGITS = 66
"""Characters of the longest number of 64 bits, in base 2 with its sign and prefix."""

_PAIR = re.compile(
    r"(?P<before>(?<!\\)(?:\\\\)*)\\u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
)
"""A surrogate pair, escaped, as JSON writes a character beyond 16 bits."""

_TAG = "tag:yaml.org,2002:"
_TAGS = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}


def scalar(text: str) -> Any:
    """What text without quotes stands for in kubectl, which uses go-yaml 2; NaN for a number that JSON lacks.

    That is YAML 1.1 without base 60 and dates: y and yes are true, 1_000 is 1000, 017 and 0o17 are 15, while
    1:30 and 2026-01-01 are text. 1.0 and 1e3 are whole numbers, since Go writes 1 and 1000 into JSON.
    """
    if text in _WORDS:
        return _WORDS[text]
    digits = text if text[0] in "_." else text.replace("_", "")
    if len(digits) <= _DIGITS and _INTEGER.fullmatch(digits):
        whole = int(_OCTAL.sub(r"\1o", digits), 0)
        if -(2**63) <= whole < 2**64:
            return whole
    if _FLOAT.fullmatch(digits) and math.isfinite(number := float(digits)):
        return int(number) if number.is_integer() else number
    return text


class _Loader(yaml.CSafeLoader):
    """Takes text without quotes for what kubectl takes it for."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _TAG + _TAGS[type(scalar(value))]
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what any parser would take for something else than text."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        plain_text = kind is yaml.ScalarNode and implicit[0] and tag == f"{_TAG}str"
        return _TAG + _TAGS[type(scalar(value))] if plain_text else tag

    def ignore_aliases(self, data: Any) -> bool:
        """What stands in several places is written out in each: aliases are not read."""
        return True


def dump(value: Any) -> str:
    """Plain values as YAML that every parser reads as they are."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110)


class RefusedError(yaml.MarkedYAMLError):
    """What is YAML and not taken, since it may be larger or deeper than its text."""


class YamlDocument:
    """One document: plain values, the line of each field, and what was wrong while reading it."""

    def __init__(self, root: yaml.Node) -> None:
        self.problems: list[tuple[FieldPath, int, str]] = []
        self.unknown: set[FieldPath] = set()
        """Paths of values that cannot be read, or not be told: of these nothing else is known to be wrong."""
        self.lines: dict[FieldPath, int] = {(): root.start_mark.line + 1}
        """Of every field and item that is there."""
        self.value = self._plain(root, ())

    def _plain(self, node: yaml.Node, path: FieldPath) -> Any:
        match node:
            case yaml.MappingNode():
                return dict(self._entries(node, path))
            case yaml.SequenceNode():
                return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, path)

    def _entries(self, node: yaml.MappingNode, path: FieldPath) -> Iterator[tuple[str, Any]]:
        entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            name = _name(key)
            if name is None:
                self._problem(path, key, "a field's name must be plain text")
                continue
            if name in entries:
                line = entries[name][0].start_mark.line + 1
                self._problem((*path, name), key, f"is given in line {line} already", known=False)
            entries[name] = key, value
        for name, (key, value) in entries.items():
            self.lines[(*path, name)] = key.start_mark.line + 1
            yield name, self._plain(value, (*path, name))

    def _item(self, node: yaml.Node, path: FieldPath) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self._plain(node, path)

    def _scalar(self, node: yaml.ScalarNode, path: FieldPath) -> Any:
        value = _value(node)
        if isinstance(value, float) and math.isnan(value):
            self._problem(path, node, f"cannot be read as {node.tag}", known=False)
            return None
        return value

    def _problem(self, path: FieldPath, node: yaml.Node, message: str, *, known: bool = True) -> None:
        self.problems.append((path, node.start_mark.line + 1, message))
        if not known:
            self.unknown.add(path)


def _value(node: yaml.ScalarNode) -> Any:
    """The value of a scalar; NaN for one that is not what its tag says."""
    kind = node.tag.removeprefix(_TAG)
    if kind == "str":
        return node.value
    value = scalar(node.value)
    fits = _TAGS[type(value)] == kind or (kind == "float" and type(value) is int)
    return value if fits else math.nan


def _name(key: yaml.Node) -> str | None:
    """The name of a field: text, or a number or truth value as JSON writes it; None for anything else."""
    value = _value(key) if isinstance(key, yaml.ScalarNode) else None
    return value if isinstance(value, str | None) else json.dumps(value)


def parts(text: str) -> Iterator[str]:
    """The documents of a file one by one, as kubectl cuts it, each on its own lines. Raises RefusedError for
    more than MAX_DOCUMENTS."""
    cuts = [0, *(found.start() for found in re.finditer(r"^---(?=\s)", text, re.MULTILINE)), len(text)]
    if len(cuts) > MAX_DOCUMENTS + 2:
        raise RefusedError(problem=f"more than {MAX_DOCUMENTS} documents: write several files")
    for start, end in pairwise(cuts):
        yield "\n" * text.count("\n", 0, start) + text[start:end]


def yaml_documents(text: str) -> Iterator[YamlDocument]:
    """The documents that are not empty. Raises yaml.YAMLError: RefusedError for what could become large or
    deep (aliases, merge keys, more than MAX_DEPTH levels), before anything is built of it.

    Time and memory are proportional to the text; how long that may be the caller knows.
    """
    if text.lstrip().startswith("{"):
        text = _PAIR.sub(_one_character, text)
    _check(text)
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node and not (isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~")):
                yield YamlDocument(node)
    finally:
        loader.dispose()


def _one_character(found: re.Match[str]) -> str:
    """What JSON writes as two escapes, as it is: in YAML an escape is a character of its own."""
    pair = bytes.fromhex(found["high"] + found["low"]).decode("utf-16-be")
    return found["before"] + pair


def _check(text: str) -> None:
    """Raise RefusedError at the first event of what is not taken: the parser tells events without building or
    recursing, while the composer of libyaml recurses on the C stack."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        match event:
            case yaml.AliasEvent():
                raise _refused(f"the alias *{event.anchor} is not taken: write out what it stands for", event)
            case yaml.ScalarEvent() if event.tag == f"{_TAG}merge" or (
                event.value == "<<" and event.implicit[0]
            ):
                raise _refused("the merge key << is not taken: write out what it merges", event)
            case yaml.DocumentStartEvent():
                documents += 1
            case yaml.CollectionStartEvent():
                depth += 1
            case yaml.CollectionEndEvent():
                depth -= 1
        if depth > MAX_DEPTH:
            raise _refused(f"more than {MAX_DEPTH} levels are nested", event)
        if documents > MAX_DOCUMENTS:
            raise _refused(f"more than {MAX_DOCUMENTS} documents", event)


def _refused(problem: str, event: yaml.Event) -> RefusedError:
    mark: Any = event.start_mark  # the stubs know one of its two classes here
    return RefusedError(problem=problem, problem_mark=mark)


def syntax_error(error: yaml.YAMLError) -> tuple[int, str]:
    """Line and words of a syntax error, or of what was refused."""
    mark = getattr(error, "problem_mark", None)
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    what = " ".join(" ".join(str(part) for part in parts if part).split()) or str(error)
    hint = " (indent with spaces, not tabs)" if "cannot start any token" in what else ""
    said = what if isinstance(error, RefusedError) else f"not valid YAML: {what}{hint}"
    return mark.line + 1 if mark else 1, said
