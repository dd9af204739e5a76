"""One manifest of several sources: a file, those that it extends, and what a command line sets in it.

Each source is laid over the one before: mappings field by field, lists of entries with names by their names,
everything else as a whole. Null takes a field away. Of every value is known where it was written, for what is
wrong with it and for what a path in it starts from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os.path import normpath
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ixt_operator.api.rules import FieldPath
from ixt_operator.manifests.documents import YamlDocument, parts, syntax_error, yaml_documents
from ixt_operator.manifests.messages import quoted, shown
from ixt_operator.manifests.problems import ManifestError, Problem, text_of

EXTENDS = "extends"
"""Field of a document that names the file that it is laid over. It is of files only: no API server has it."""

MAX_FILES = 8
"""Files that a document may be made of, each extending the next."""


class Origin(NamedTuple):
    """Where a value was written."""

    file: str
    line: int
    """As in a Problem."""
    folder: Path
    """What a path in the value starts from."""


@dataclass
class Composed:
    """Plain values, and where each of them was written."""

    value: Any = None
    origins: dict[FieldPath, Origin] = field(default_factory=dict)
    unknown: set[FieldPath] = field(default_factory=set)
    """Paths of values that cannot be read: of these nothing else is known to be wrong."""
    problems: list[Problem] = field(default_factory=list)

    def origin(self, path: FieldPath) -> Origin:
        """Where a value was written, or the nearest thing around it that is there."""
        while path not in self.origins:
            path = path[:-1]
        return self.origins[path]

    def problem(self, path: FieldPath, message: str) -> Problem:
        """A problem of the value at a path."""
        origin = self.origin(path)
        return Problem(origin.file, origin.line, shown(path), message)


class _Side(NamedTuple):
    """A value of a source, and where it stands there."""

    source: Composed
    path: FieldPath
    value: Any


def written(document: YamlDocument, file: str, folder: Path) -> Composed:
    """A document by itself."""
    origins = {path: Origin(file, line, folder) for path, line in document.lines.items()}
    problems = [Problem(file, line, shown(path), message) for path, line, message in document.problems]
    return Composed(document.value, origins, document.unknown, problems)


def laid_over(lower: Composed, upper: Composed) -> Composed:
    """Two sources as one, in which the upper one has the last word."""
    found = Composed(problems=lower.problems + upper.problems)
    found.value = _merged(found, (), [_Side(lower, (), lower.value), _Side(upper, (), upper.value)])
    return found


def extended(document: Composed, file: Path) -> Composed:
    """A document laid over the file that it extends, if it extends one. `file` is where it stands itself.

    Raises ManifestError for a file that cannot be read or is none of manifests, that extends itself, or when
    more than MAX_FILES extend each other.
    """
    found, chain = document, [file.absolute().resolve()]
    while isinstance(found.value, dict) and (name := found.value.pop(EXTENDS, None)) is not None:
        where = found.origin((EXTENDS,))
        below = _file_of(name, where, chain)
        chain.append(below.resolve())
        found = laid_over(_only(below, normpath(Path(where.file).parent / name), found.value, where), found)
    return found


def _file_of(name: Any, where: Origin, chain: Sequence[Path]) -> Path:
    """The file that a document extends."""
    if not isinstance(name, str) or not name or "://" in name:
        raise _refused(where, f"must be a file, relative to this one, not {quoted(name)}")
    found = Path(where.folder, name)
    if found.resolve() in chain:
        turn = " -> ".join(each.name for each in (*chain, found.resolve()))
        raise _refused(where, f"extends itself ({turn}): take one of them out")
    if len(chain) >= MAX_FILES:
        raise _refused(where, f"more than {MAX_FILES} files extend each other: write some of them as one")
    return found


def _only(path: Path, told: str, upper: dict[str, Any], where: Origin) -> Composed:
    """The one document of a file that a document can be laid over. `told` is how messages name the file."""
    kind = upper.get("kind")
    try:
        documents = [document for part in parts(text_of(path)) for document in yaml_documents(part)]
    except ManifestError as error:
        raise _refused(where, f"{told} {error.problems[0].message}") from None
    except yaml.YAMLError as error:
        line, message = syntax_error(error)
        raise ManifestError([Problem(told, line, "", message)]) from None
    found = [
        document
        for document in documents
        if isinstance(document.value, dict) and document.value.get("kind", kind) == kind
    ]
    if len(found) != 1:
        raise _refused(where, f"{told} must have one document of kind {kind}, has {len(found)}")
    return written(found[0], told, path.absolute().parent)


def _refused(where: Origin, message: str) -> ManifestError:
    return ManifestError([Problem(where.file, where.line, EXTENDS, message)])


def _merged(into: Composed, here: FieldPath, sides: Sequence[_Side]) -> Any:
    """The value of several sides at one place, the last the strongest. Where it comes from is kept."""
    last = sides[-1]
    into.origins[here] = last.source.origin(last.path)
    if last.path in last.source.unknown:
        into.unknown.add(here)
    if isinstance(last.value, dict):
        names = {name: None for side in sides if isinstance(side.value, dict) for name in side.value}
        return {name: _merged(into, (*here, name), _inside(sides, name)) for name in names}
    if isinstance(last.value, list):
        entries = _entries(sides)
        return [_merged(into, (*here, index), entry) for index, entry in enumerate(entries)]
    return last.value


def _inside(sides: Iterable[_Side], name: str) -> list[_Side]:
    """What the sides have in a field of theirs."""
    return [
        _Side(side.source, (*side.path, name), side.value[name])
        for side in sides
        if isinstance(side.value, dict) and name in side.value
    ]


def _entries(sides: Sequence[_Side]) -> list[list[_Side]]:
    """The entries of lists: where all have names, those of one name together, else those of the last list."""
    lists = [side for side in sides if isinstance(side.value, list)]
    if len(lists) == 1 or not all(map(_is_named, lists)):
        last = lists[-1]
        return [[_entry(last, index)] for index in range(len(last.value))]
    found: dict[str, list[_Side]] = {}
    for side in lists:
        for index, item in enumerate(side.value):
            found.setdefault(item["name"], []).append(_entry(side, index))
    return [*found.values()]


def _entry(side: _Side, index: int) -> _Side:
    return _Side(side.source, (*side.path, index), side.value[index])


def _is_named(side: _Side) -> bool:
    """Whether there are entries, all have names, and no two the same."""
    names = [item.get("name") if isinstance(item, dict) else None for item in side.value]
    return all(isinstance(name, str) for name in names) and 0 < len(names) == len(set(names))
