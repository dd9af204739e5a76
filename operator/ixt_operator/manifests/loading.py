"""Manifests read from files: all problems at once, each with its line, its field and what to write."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.rules import Path as FieldPath
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.manifests.documents import YamlDocument, syntax_error, yaml_documents
from ixt_operator.manifests.messages import explain, nearest, quoted, shown

Object = IXTRun | IXTRuntime
KINDS: dict[str, type[Object]] = {"IXTRun": IXTRun, "IXTRuntime": IXTRuntime}

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


def load(path: Path) -> tuple[Object, ...]:
    """The objects of a file of YAML or JSON with one or more documents.

    In places (uri, source, config, tokenizer, model) a path such as ./data.jsonl means a file beside the
    manifest. Raises ManifestError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise ManifestError([Problem(str(path), 1, "", f"cannot be read: {reason}")]) from None
    return loads(text, str(path), path.absolute().parent)


def loads(text: str, file: str, folder: Path) -> tuple[Object, ...]:
    """The objects of a text. `file` stands in messages, relative paths start from `folder`."""
    problems: list[Problem] = []
    found: list[Object] = []
    try:
        for document in yaml_documents(text):
            problems += [
                Problem(file, line, shown(path), message) for path, line, message in document.problems
            ]
            try:
                found.append(_object(document, folder))
            except _Refused as refused:
                problems += [
                    Problem(file, document.line(path), shown(path), message)
                    for path, message in refused.problems
                ]
    except yaml.YAMLError as error:
        line, message = syntax_error(error)
        problems.append(Problem(file, line, "", message))
    if not found and not problems:
        problems.append(Problem(file, 1, "", "nothing in it: write a document of kind IXTRun"))
    if problems:
        raise ManifestError(problems)
    return tuple(found)


class _Refused(Exception):  # noqa: N818 - caught here only
    def __init__(self, problems: list[tuple[FieldPath, str]]) -> None:
        self.problems = problems


def _object(document: YamlDocument, folder: Path) -> Object:
    value = document.value
    if not isinstance(value, dict):
        raise _Refused([((), "must be a mapping with apiVersion, kind, metadata and spec")])
    kind = value.get("kind")
    wrong: list[tuple[FieldPath, str]] = []
    if value.get("apiVersion") != API_VERSION:
        wrong.append((("apiVersion",), f"must be {API_VERSION}, not {quoted(value.get('apiVersion'))}"))
    if kind not in KINDS:
        wrong.append((("kind",), f"must be {' or '.join(KINDS)}, not {quoted(kind)}{nearest(kind, KINDS)}"))
    if wrong:
        raise _Refused(wrong)
    model = KINDS[str(kind)]
    text = json.dumps({**value, "spec": _resolved(value["spec"], folder)} if "spec" in value else value)
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise _Refused([found for detail in details for found in explain(detail, model)]) from None


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
