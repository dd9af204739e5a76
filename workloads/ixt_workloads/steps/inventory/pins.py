"""Pins: content hashes of what a stage reads, so that keys follow content and not places."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import EvalTask, Judge, ModelSource
from ixt_workloads.data.folders import check_folder
from ixt_workloads.data.locate import local_file, local_folder, unreadable
from ixt_workloads.data.questions import read_questions
from ixt_workloads.steps.inventory.sources import SourceFile

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "tokenizer.model",
)


def pins_of(config: InventoryConfig, files: dict[str, list[SourceFile]]) -> dict[str, str]:
    """Pins by name: datasets, and those of tasks, judge, model and tokenizer that the stage has.

    Raises StepError for a model folder without config, tokenizer or safetensors weights.
    """
    pins = {
        "datasets": _digest(
            [name, file.name, _content(file.path)] for name, found in files.items() for file in found
        )
    }
    if config.tasks:
        pins["tasks"] = _digest(_task(task) for task in config.tasks)
    if config.judge:
        pins["judge"] = _judge(config.judge)
    if config.model:
        pins |= _model(config.model)
    return pins


def _task(task: EvalTask) -> list[str]:
    # Read here so that a bad line is found before anything is trained.
    read_questions(task)
    return [task.name, _content(local_file(task.uri, task.credentials_secret_ref))]


def _judge(judge: Judge) -> str:
    if judge.source is None:
        return f"endpoint:{judge.model}"
    folder = local_folder(judge.source, judge.revision, judge.credentials_secret_ref, what="judge.model")
    check_folder(folder, "judge.model", weights=True, tokenizer=True)
    return _folder(folder)


def _model(model: ModelSource) -> dict[str, str]:
    secret = model.credentials_secret_ref
    if model.source:
        folder = local_folder(model.source, model.revision, secret, what="model.source")
        check_folder(folder, "model.source", weights=True, tokenizer=True)
        return {"model": _folder(folder), "tokenizer": _folder(folder, TOKENIZER)}
    if model.config is None or model.tokenizer is None:
        raise StepError(Exit.CONFIG, "model needs source, or config with tokenizer")
    config = local_folder(model.config, secret=secret, what="model.config")
    tokenizer = local_folder(model.tokenizer, secret=secret, what="model.tokenizer")
    check_folder(config, "model.config", weights=False, tokenizer=False)
    check_folder(tokenizer, "model.tokenizer", weights=False, tokenizer=True, config=False)
    return {"model": _folder(config, ("config.json",)), "tokenizer": _folder(tokenizer, TOKENIZER)}


def _folder(folder: Path, names: Iterable[str] | None = None) -> str:
    """Hash over a model folder's files: the named ones, or all that loading reads."""
    endings = (".safetensors", ".json", ".jinja", ".model", ".txt")
    found = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and (path.name in names if names is not None else path.name.endswith(endings))
    )
    return _digest([path.name, _content(path)] for path in found)


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(str(path), error) from None


def _digest(entries: Iterable[list[str]]) -> str:
    text = json.dumps(list(entries), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
