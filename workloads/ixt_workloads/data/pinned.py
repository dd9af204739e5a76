"""Hashes of what is read, by which a pin is known: of files, of a model's folders, of tasks."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import EvalTask, ModelSource
from ixt_workloads.data.folders import check_folder
from ixt_workloads.data.locate import local_file, local_folder, unreadable

LOADED = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Endings of the files that loading a model reads."""

MADE_OF_ANOTHER = "what is made of it would pass for what is made of another"

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "tokenizer.model",
    "additional_chat_templates",
)


def pins_of_model(model: ModelSource, *names: str) -> dict[str, str]:
    """Pins of the model that a stage starts from, and of its tokenizer: the named ones, or both.

    Raises StepError for a folder without config, tokenizer or safetensors weights.
    """
    found = {"model": _model, "tokenizer": _tokenizer}
    return {name: found[name](model) for name in names or found}


def check_model(model: ModelSource, pins: Mapping[str, str], *names: str) -> None:
    """Raise StepError when one of these that is about to be loaded is not what the run pinned, by which an
    artifact is known. What was not pinned is not looked at."""
    for name in names:
        if name in pins and pins_of_model(model, name)[name] != pins[name]:
            place = model.source or (model.config if name == "model" else model.tokenizer)
            raise changed(f"{place}: the {name}", revision="model.revision")


def pin_of_tasks(tasks: Iterable[EvalTask]) -> str:
    """Pin of the tasks that a stage asks. Raises StepError for one that cannot be read."""
    return digest([task.name, content(local_file(task.uri, task.credentials_secret_ref))] for task in tasks)


def check_tasks(tasks: Sequence[EvalTask], pins: Mapping[str, str]) -> None:
    """The same for tasks that are about to be read."""
    if "tasks" in pins and pin_of_tasks(tasks) != pins["tasks"]:
        raise changed(f"a file of evaluate.tasks ({', '.join(task.name for task in tasks)})")


def changed(what: str, would: str = MADE_OF_ANOTHER, revision: str = "") -> StepError:
    """What to raise for something that is no longer what was pinned: what using it `would` do, and the field
    that names a commit of it, if one does."""
    named = f"; name a commit ({revision}) rather than a branch" if revision else ""
    return StepError(
        Exit.CONFIG,
        f"{what} has changed since this run pinned it: {would}",
        f"put the first one back, or apply the run anew, which pins what is there now{named}",
    )


def _model(model: ModelSource) -> str:
    secret = model.credentials_secret_ref
    if model.source:
        folder = local_folder(model.source, model.revision, secret, what="model.source")
        check_folder(folder, "model.source", weights=True, tokenizer=True)
        return pin_of_folder(folder)
    if model.config is None:
        raise StepError(Exit.CONFIG, "model needs source, or config with tokenizer")
    folder = local_folder(model.config, secret=secret, what="model.config")
    check_folder(folder, "model.config", weights=False, tokenizer=False)
    return pin_of_folder(folder, ("config.json",))


def _tokenizer(model: ModelSource) -> str:
    secret = model.credentials_secret_ref
    if model.source:
        folder = local_folder(model.source, model.revision, secret, what="model.source")
    elif model.tokenizer:
        folder = local_folder(model.tokenizer, secret=secret, what="model.tokenizer")
    else:
        raise StepError(Exit.CONFIG, "model needs source, or config with tokenizer")
    check_folder(folder, "model.tokenizer", weights=False, tokenizer=True, config=False)
    found = pin_of_folder(folder, TOKENIZER)
    return digest([[found, model.chat_template]]) if model.chat_template else found


def pin_of_folder(folder: Path, names: Iterable[str] | None = None) -> str:
    """Hash over a model folder's files: the named ones with what folders among them hold, or all that loading
    reads. Raises StepError for one that cannot be read."""
    found = [
        path
        for path in folder.iterdir()
        if (path.name in names if names is not None else path.name.endswith(LOADED))
    ]
    found += [path for named in found if named.is_dir() for path in named.iterdir()]
    return digest(contents(folder, found))


def contents(folder: Path, paths: Iterable[Path]) -> list[list[str]]:
    """The files among paths of a folder, in order: where in it each is, and its hash. Raises StepError."""
    files = sorted(path for path in paths if path.is_file())
    return [[path.relative_to(folder).as_posix(), content(path)] for path in files]


def content(path: Path) -> str:
    """Hash of a file. Raises StepError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(str(path), error) from None


def digest(entries: Iterable[Any]) -> str:
    """Hash of a list of what JSON has."""
    text = json.dumps(list(entries), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
