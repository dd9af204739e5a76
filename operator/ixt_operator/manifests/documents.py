"""YAML as the API server understands it: read with the line of every field, and written."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from ixt_operator.api.rules import Path as FieldPath

_EXPONENT = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")


class _Loader(yaml.CSafeLoader):
    """Scalars as the API server's parser reads them: 3e-4 is a number, 2026-01-01 is text."""


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what the API server's parser would take for a number."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def dump(value: Any) -> str:
    """Plain values as YAML that every parser reads as they are."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110)


class YamlDocument:
    """One document: plain values, the line of each field, and what was wrong while reading it."""

    def __init__(self, loader: _Loader, root: yaml.Node) -> None:
        self.problems: list[tuple[FieldPath, int, str]] = []
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
            self.problems.append(
                (path, node.start_mark.line + 1, "an alias may not stand inside its own anchor")
            )
            return None
        self._open.add(id(node))
        try:
            match node:
                case yaml.MappingNode():
                    return dict(self._entries(node, path))
                case yaml.SequenceNode():
                    return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
                case _:
                    return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _entries(self, node: yaml.MappingNode, path: FieldPath) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append((path, line, "a field's name must be plain text"))
            elif name in seen and key.tag != "tag:yaml.org,2002:merge":
                self.problems.append(((*path, name), line, f"is given in line {seen[name]} already"))
            seen.setdefault(name, line)
        try:
            self._loader.flatten_mapping(node)
        except yaml.constructor.ConstructorError:
            self.problems.append((path, node.start_mark.line + 1, "<< merges mappings only"))
        for key, value in node.value:
            name = str(key.value)
            self._lines[(*path, name)] = key.start_mark.line + 1
            yield name, self._plain(value, (*path, name))

    def _item(self, node: yaml.Node, path: FieldPath) -> Any:
        self._lines[path] = node.start_mark.line + 1
        return self._plain(node, path)

    def _scalar(self, node: yaml.Node, path: FieldPath) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self.problems.append((path, node.start_mark.line + 1, f"cannot be read as {node.tag}"))
            return None
        return value if isinstance(value, str | int | float | bool | None) else node.value


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
