"""Manifests read from files: all problems at once, each with its line, its field and what to write."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ixt_operator.api.engine import ENGINE_ARGUMENTS, option
from ixt_operator.api.meta import API_VERSION
from ixt_operator.api.rules import UNKNOWN, FieldPath, Problems, UnknownError
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.manifests.checking import understood
from ixt_operator.manifests.composing import Composed, extended, laid_over, written
from ixt_operator.manifests.documents import RefusedError, parts, syntax_error, yaml_documents
from ixt_operator.manifests.messages import closest, nearest, quoted
from ixt_operator.manifests.problems import ManifestError, Problem, text_of
from ixt_operator.manifests.setting import setting

Loaded = IXTRun | IXTRuntime
MODELS: dict[str, type[Loaded]] = {"IXTRun": IXTRun, "IXTRuntime": IXTRuntime}

PLACES = ("uri", "source", "config", "tokenizer", "model")
"""Fields whose value may be a path on this machine, relative to the manifest."""


def load(
    path: Path,
    warn: Callable[[Problem], None] = lambda _: None,
    *,
    here: bool = False,
    settings: Sequence[str] = (),
) -> tuple[Loaded, ...]:
    """The objects of a file of YAML or JSON with one or more documents; `-` is standard input.

    A document may extend another file. In places (uri, source, config, tokenizer, model) a path such as
    ./data.jsonl means a file beside the manifest in which it is written. `settings` are laid over the runs
    (PATH=VALUE; setting.py). `warn` is told of what is no error, but perhaps not meant. With `here`, files
    that are named must be there. Raises ManifestError.
    """
    return loads(text_of(path), str(path), path.absolute().parent, warn, here=here, settings=settings)


def loads(
    text: str,
    file: str,
    folder: Path,
    warn: Callable[[Problem], None] = lambda _: None,
    *,
    here: bool = False,
    settings: Sequence[str] = (),
) -> tuple[Loaded, ...]:
    """The objects of a text. `file` stands in messages, relative paths start from `folder`."""
    problems: list[Problem] = []
    return _objects(_documents(text, file, folder, settings, problems), file, problems, warn, here=here)


def merged(path: Path, settings: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The documents of a file as `load` reads them: with what they extend and what is set in them, paths
    written out. Raises ManifestError, as `load` does."""
    problems: list[Problem] = []
    found = [*_documents(text_of(path), str(path), path.absolute().parent, settings, problems)]
    _objects(found, str(path), problems)
    return [{**each.value, "spec": _resolved(each, each.value["spec"], ("spec",))} for each in found]


def _objects(
    documents: Iterable[Composed],
    file: str,
    problems: list[Problem],
    warn: Callable[[Problem], None] = lambda _: None,
    *,
    here: bool = False,
) -> tuple[Loaded, ...]:
    """The objects of the documents of a file. Raises ManifestError for what is wrong with them, and for the
    problems, to which reading them may add."""
    found: list[Loaded] = []
    for document in documents:
        given, wrong = _object(document)
        wrong += _absent(document, document.value) if here else ()
        problems += document.problems
        problems += [document.problem(path, told) for path, told in wrong if path not in document.unknown]
        if given is not None:
            found.append(given)
            for path, message in _warnings(given):
                warn(document.problem(path, f"warning: {message}"))
    if not found and not problems:
        problems.append(Problem(file, 1, "", "nothing in it: write a document of kind IXTRun"))
    if problems:
        raise ManifestError(problems)
    return tuple(found)


def _documents(
    text: str, file: str, folder: Path, settings: Sequence[str], problems: list[Problem]
) -> Iterator[Composed]:
    """The documents of a text, each with what it extends and what is set in it. One that cannot be read is
    added to the problems, as is all after it in its part of the text."""
    try:
        cut = [*parts(text)]
    except RefusedError as error:
        raise ManifestError([Problem(file, 1, "", syntax_error(error)[1])]) from None
    for part in cut:
        try:
            for document in yaml_documents(part):
                yield _composed(written(document, file, folder), Path(file), settings)
        except yaml.YAMLError as error:
            line, message = syntax_error(error)
            problems.append(Problem(file, line, "", message))
        except ManifestError as error:
            problems += error.problems


def _composed(document: Composed, file: Path, settings: Sequence[str]) -> Composed:
    found = extended(document, file)
    if isinstance(found.value, dict) and found.value.get("kind") == "IXTRun":
        for text in settings:
            try:
                found = laid_over(found, setting(text, IXTRun, found.value))
            except ManifestError as error:
                found.problems += error.problems
    return found


def _object(document: Composed) -> tuple[Loaded | None, Problems]:
    """The object of a document, if it can be told what kind it is, and what is wrong with it."""
    value = document.value
    if not isinstance(value, dict):
        return None, [((), "must be a mapping with apiVersion, kind, metadata and spec")]
    version, kind = value.get("apiVersion"), value.get("kind")
    wrong: Problems = []
    if version != API_VERSION:
        wrong.append((("apiVersion",), f"must be {API_VERSION}, not {quoted(version)}"))
    meant = closest(kind, MODELS)
    if kind != meant:
        kinds = " or ".join(MODELS)
        wrong.append((("kind",), f"must be {kinds}, not {quoted(kind)}{nearest(kind, MODELS)}"))
    if not meant:
        return None, wrong
    value = {**value, "apiVersion": API_VERSION, "kind": meant}
    value.pop("status", None)  # the API server ignores it
    if "spec" in value:
        value["spec"] = _resolved(document, value["spec"], ("spec",))
    found, problems = understood(MODELS[meant], value, document.unknown)
    return found, wrong + problems


def _warnings(found: Loaded) -> Iterator[tuple[FieldPath, str]]:
    """Of a run whose judge is known: options of vLLM that nobody here knows, and greedy sampling of a judge
    that thinks."""
    try:
        judge = found.spec.judge if isinstance(found, IXTRun) else None
        arguments = [*judge.engine.args] if judge else []
    except UnknownError:
        return
    if judge is not None and judge.reasoning_parser is not None and _greedy(judge.sampling):
        told = "a judge that reasons tends to repeat itself without end when greedy: 0.6 is usual"
        yield ("spec", "judge", "sampling", "temperature"), told
    for index, argument in enumerate(arguments):
        if argument is not UNKNOWN and option(argument) not in ENGINE_ARGUMENTS:
            path = ("spec", "judge", "engine", "args", index)
            name = argument.partition("=")[0]
            yield path, f"{name} is not among the options that ixt knows: it is passed to vLLM as it is"


def _greedy(sampling: Any) -> bool:
    """Whether answers are greedy though nobody asked for that."""
    return sampling is not UNKNOWN and "temperature" not in sampling.model_fields_set


def _absent(document: Composed, value: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, str]]:
    """The places of a manifest that are paths from itself, and where nothing is. A storage is made."""
    if isinstance(value, str):
        beside = path[-1:] and path[-1] in PLACES and value.startswith(("./", "../"))
        place = Path(document.origin(path).folder, value)
        if beside and path[-2:] != ("storage", "uri") and not place.exists():
            yield path, f"there is no {place} on this machine"
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in ("endpoint", "status"):
                yield from _absent(document, item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _absent(document, item, (*path, index))


def _resolved(document: Composed, value: Any, path: FieldPath) -> Any:
    """A value with the paths in its places made URIs. An endpoint's model is a name, whatever it is."""
    if isinstance(value, list):
        return [_resolved(document, item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _resolved(document, item, (*path, name)) for name, item in value.items()}
    is_place = path[-1] in PLACES and path[-2:-1] != ("endpoint",)
    return _uri(value, document.origin(path).folder) if is_place and isinstance(value, str) else value


def _uri(value: str, folder: Path) -> str:
    here = value in (".", "..") or value.startswith(("./", "../", "/"))
    return Path(folder, value).resolve().as_uri() if here else value
