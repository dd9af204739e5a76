"""Manifests read from files: all problems at once, each with its line, its field and what to write."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ixt_operator.api.engine import ENGINE_ARGUMENTS, option
from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.rules import UNKNOWN, UnknownError
from ixt_operator.api.rules import Path as FieldPath
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.manifests.checking import understood
from ixt_operator.manifests.documents import YamlDocument, parts, syntax_error, yaml_documents
from ixt_operator.manifests.messages import closest, nearest, quoted, shown

Loaded = IXTRun | IXTRuntime
MODELS: dict[str, type[Loaded]] = {"IXTRun": IXTRun, "IXTRuntime": IXTRuntime}

PLACES = ("uri", "source", "config", "tokenizer", "model")
"""Fields whose value may be a path on this machine, relative to the manifest."""


class Problem(NamedTuple):
    """One thing that is wrong with a manifest."""

    file: str
    line: int
    """From 1."""
    field: str
    """Path of the field, for example spec.stages[0].train.maxTokens; empty for the document."""
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field + ': ' if self.field else ''}{self.message}"


class ManifestError(ValueError):
    """All problems of a file, by line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: (problem.line, problem.field))
        super().__init__("\n".join(map(str, self.problems)))


def load(path: Path, warn: Callable[[Problem], None] = lambda _: None) -> tuple[Loaded, ...]:
    """The objects of a file of YAML or JSON with one or more documents; `-` is standard input.

    In places (uri, source, config, tokenizer, model) a path such as ./data.jsonl means a file beside the
    manifest. `warn` is told of what is no error, but perhaps not meant. Raises ManifestError.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise ManifestError([Problem(str(path), 1, "", f"cannot be read: {reason}")]) from None
    return loads(text, str(path), path.absolute().parent, warn)


def loads(
    text: str, file: str, folder: Path, warn: Callable[[Problem], None] = lambda _: None
) -> tuple[Loaded, ...]:
    """The objects of a text. `file` stands in messages, relative paths start from `folder`."""
    problems: list[Problem] = []
    found: list[Loaded] = []
    for part in parts(text):
        try:
            for document in yaml_documents(part):
                given, wrong = _object(document, folder)
                known = [(path, message) for path, message in wrong if path not in document.unknown]
                lines = [(path, document.line(path), message) for path, message in known]
                problems += [
                    Problem(file, line, shown(path), message)
                    for path, line, message in (*document.problems, *lines)
                ]
                if given is None:
                    continue
                found.append(given)
                for path, message in _warnings(given):
                    warn(Problem(file, document.line(path), shown(path), f"warning: {message}"))
        except yaml.YAMLError as error:
            line, message = syntax_error(error)
            problems.append(Problem(file, line, "", message))
    if not found and not problems:
        problems.append(Problem(file, 1, "", "nothing in it: write a document of kind IXTRun"))
    if problems:
        raise ManifestError(problems)
    return tuple(found)


def _object(document: YamlDocument, folder: Path) -> tuple[Loaded | None, list[tuple[FieldPath, str]]]:
    """The object of a document, if it can be told what kind it is, and what is wrong with it."""
    value = document.value
    if not isinstance(value, dict):
        return None, [((), "must be a mapping with apiVersion, kind, metadata and spec")]
    version, kind = value.get("apiVersion"), value.get("kind")
    wrong: list[tuple[FieldPath, str]] = []
    if version != API_VERSION:
        wrong.append((("apiVersion",), f"must be {API_VERSION}, not {quoted(version)}"))
    meant = closest(kind, MODELS)
    if kind != meant:
        wrong.append((("kind",), f"must be {' or '.join(MODELS)}, not {quoted(kind)}{nearest(kind, MODELS)}"))
    if not meant:
        return None, wrong
    value = {**value, "apiVersion": API_VERSION, "kind": meant}
    value.pop("status", None)  # the API server ignores it
    if "spec" in value:
        value["spec"] = _resolved(value["spec"], folder)
    found, problems = understood(MODELS[meant], value, document.unknown)
    return found, wrong + problems


def _warnings(found: Loaded) -> Iterator[tuple[FieldPath, str]]:
    """Options of vLLM that nobody here knows, of a run whose judge is known."""
    try:
        judge = found.spec.judge if isinstance(found, IXTRun) else None
        arguments = [*judge.engine.args] if judge else []
    except UnknownError:
        return
    for index, argument in enumerate(arguments):
        if argument is not UNKNOWN and option(argument) not in ENGINE_ARGUMENTS:
            path = ("spec", "judge", "engine", "args", index)
            name = argument.partition("=")[0]
            yield path, f"{name} is not among the options that ixt knows: it is passed to vLLM as it is"


def _resolved(value: Any, folder: Path, parent: str = "") -> Any:
    """A spec with the paths in its places made URIs. An endpoint's model is a name, whatever it is."""
    if isinstance(value, list):
        return [_resolved(item, folder, parent) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _uri(item, folder)
        if isinstance(item, str) and name in PLACES and parent != "endpoint"
        else _resolved(item, folder, name)
        for name, item in value.items()
    }


def _uri(value: str, folder: Path) -> str:
    here = value in (".", "..") or value.startswith(("./", "../", "/"))
    return Path(folder, value).resolve().as_uri() if here else value
