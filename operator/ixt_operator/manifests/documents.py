"""YAML as the API server understands it: read with the line of every field, and written."""

import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import yaml

from ixt_operator.api.rules import Path as FieldPath

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
    if _INTEGER.fullmatch(digits) and -(2**63) <= (whole := int(_OCTAL.sub(r"\1o", digits), 0)) < 2**64:
        return whole
    if _FLOAT.fullmatch(digits) and math.isfinite(number := float(digits)):
        return int(number) if number.is_integer() else number
    return text


class _Loader(yaml.CSafeLoader):
    """Takes text without quotes for what kubectl takes it for."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and value != "<<":
            return _TAG + _TAGS[type(scalar(value))]
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what any parser would take for something else than text."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        plain_text = kind is yaml.ScalarNode and implicit[0] and tag == f"{_TAG}str"
        return _TAG + _TAGS[type(scalar(value))] if plain_text else tag


def dump(value: Any) -> str:
    """Plain values as YAML that every parser reads as they are."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110)


class YamlDocument:
    """One document: plain values, the line of each field, and what was wrong while reading it."""

    def __init__(self, loader: _Loader, root: yaml.Node) -> None:
        self.problems: list[tuple[FieldPath, int, str]] = []
        self.unknown: set[FieldPath] = set()
        """Paths of values that cannot be read, or not be told: of these nothing else is known to be wrong."""
        self._loader = loader
        self._open: set[int] = set()
        self._lines: dict[FieldPath, int] = {(): root.start_mark.line + 1}
        self.value = self._plain(root, ())

    def line(self, path: FieldPath) -> int:
        """Line of a field, or of the nearest thing around it that is there."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _plain(self, node: yaml.Node, path: FieldPath) -> Any:
        if id(node) in self._open:
            self._problem(path, node, "an alias may not stand inside its own anchor", known=False)
            return None
        self._open.add(id(node))
        try:
            match node:
                case yaml.MappingNode():
                    return dict(self._entries(node, path))
                case yaml.SequenceNode():
                    return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
                case yaml.ScalarNode():
                    return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _entries(self, node: yaml.MappingNode, path: FieldPath) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            name = _name(key)
            if name is None:
                self._problem(path, key, "a field's name must be plain text")
            elif name in seen and key.tag != f"{_TAG}merge":
                self._problem((*path, name), key, f"is given in line {seen[name]} already", known=False)
            else:
                seen[name] = key.start_mark.line + 1
        try:
            self._loader.flatten_mapping(node)
        except yaml.constructor.ConstructorError:
            self._problem(path, node, "<< merges mappings only", known=False)
        entries = {name: (key, value) for key, value in node.value if (name := _name(key)) is not None}
        node.value = [*entries.values()]  # an alias comes here again
        for name, (key, value) in entries.items():
            self._lines[(*path, name)] = key.start_mark.line + 1
            yield name, self._plain(value, (*path, name))

    def _item(self, node: yaml.Node, path: FieldPath) -> Any:
        self._lines[path] = node.start_mark.line + 1
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
    if kind in ("str", "merge"):
        return node.value
    value = scalar(node.value)
    fits = _TAGS[type(value)] == kind or (kind == "float" and type(value) is int)
    return value if fits else math.nan


def _name(key: yaml.Node) -> str | None:
    """The name of a field: text, or a number or truth value as JSON writes it; None for anything else."""
    value = _value(key) if isinstance(key, yaml.ScalarNode) else None
    return value if isinstance(value, str | None) else json.dumps(value)


def parts(text: str) -> Iterator[str]:
    """The documents of a file one by one, as kubectl cuts it, each on its own lines."""
    cuts = [0, *(found.start() for found in re.finditer(r"^---(?=\s)", text, re.MULTILINE)), len(text)]
    for start, end in pairwise(cuts):
        yield "\n" * text.count("\n", 0, start) + text[start:end]


def yaml_documents(text: str) -> Iterator[YamlDocument]:
    """The documents that are not empty. Raises yaml.YAMLError."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node and not (isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~")):
                yield YamlDocument(loader, node)
    finally:
        loader.dispose()


def syntax_error(error: yaml.YAMLError) -> tuple[int, str]:
    """Line and words of a syntax error."""
    mark = getattr(error, "problem_mark", None)
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    what = " ".join(str(part) for part in parts if part) or str(error)
    hint = " (indent with spaces, not tabs)" if "cannot start any token" in what else ""
    return mark.line + 1 if mark else 1, f"not valid YAML: {' '.join(what.split())}{hint}"
