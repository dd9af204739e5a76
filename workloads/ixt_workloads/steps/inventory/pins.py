"""Pins: content hashes of what a stage reads, so that keys follow content and not places."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.steps import EvalTask, InventoryConfig, Judge, ModelSource
from ixt_workloads.data.locate import local_file, local_folder
from ixt_workloads.steps.inventory.sources import SourceFile

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
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
        pins["tasks"] = _digest([task.name, _content(_task_file(task))] for task in config.tasks)
    if config.judge:
        pins["judge"] = _judge(config.judge)
    if config.model:
        pins |= _model(config.model)
    return pins


def _task_file(task: EvalTask) -> Path:
    path = local_file(task.uri)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number > task.max_items:
                break
            try:
                value = json.loads(line) if line.strip() else {"prompt": "", "answer": ""}
                good = all(isinstance(value[name], str) for name in ("prompt", "answer"))
            except (ValueError, KeyError, TypeError):
                good = False
            if not good:
                raise StepError(
                    Exit.DATA,
                    f"task {task.name}: {path}, line {number}: needs the texts prompt and answer",
                    'write lines like {"prompt": "2+2=", "answer": "4"}',
                )
    return path


def _judge(judge: Judge) -> str:
    if judge.source is None:
        return f"endpoint:{judge.model}"
    folder = local_folder(judge.source, judge.revision)
    check_folder(folder, "judge", weights=True, tokenizer=True)
    return _folder(folder)


def _model(model: ModelSource) -> dict[str, str]:
    if model.source:
        folder = local_folder(model.source, model.revision)
        check_folder(folder, "model", weights=True, tokenizer=True)
        return {"model": _folder(folder), "tokenizer": _folder(folder, TOKENIZER)}
    if model.config is None or model.tokenizer is None:
        raise StepError(Exit.CONFIG, "model needs source, or config with tokenizer")
    config, tokenizer = local_folder(model.config), local_folder(model.tokenizer)
    check_folder(config, "model.config", weights=False, tokenizer=False)
    check_folder(tokenizer, "model.tokenizer", weights=False, tokenizer=True, config=False)
    return {"model": _folder(config, ("config.json",)), "tokenizer": _folder(tokenizer, TOKENIZER)}


def check_folder(folder: Path, what: str, *, weights: bool, tokenizer: bool, config: bool = True) -> None:
    """Raise StepError for a model folder that lacks what is needed, or has its weights as pickle."""
    names = [path.name for path in folder.iterdir()]
    if config and "config.json" not in names:
        raise StepError(Exit.NO_INPUT, f"{what}: {folder} has no config.json", "give a Hugging Face folder")
    if tokenizer and "tokenizer.json" not in names:
        raise StepError(
            Exit.NO_INPUT,
            f"{what}: {folder} has no tokenizer.json",
            "save the tokenizer with save_pretrained into the folder",
        )
    if weights and not any(name.endswith(".safetensors") for name in names):
        pickles = sorted(name for name in names if name.endswith(PICKLES))
        if pickles:
            raise StepError(
                Exit.DATA,
                f"{what}: {folder} has its weights as pickle ({pickles[0]}), which can run code when read",
                "load it where you trust it and save_pretrained(..., safe_serialization=True)",
            )
        raise StepError(
            Exit.NO_INPUT, f"{what}: {folder} has no weights (*.safetensors)", "is it the right folder?"
        )


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
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(entries: Iterable[list[str]]) -> str:
    text = json.dumps(list(entries), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
