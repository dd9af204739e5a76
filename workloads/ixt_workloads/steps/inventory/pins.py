"""Pins: content hashes of what a stage reads, so that keys follow content and not places."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.steps import EvalTask, InventoryConfig, Judge, ModelSource
from ixt_workloads.data.locate import local_file, local_folder, unreadable
from ixt_workloads.data.questions import read_questions
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
        pins["tasks"] = _digest(_task(task) for task in config.tasks)
    if config.judge:
        pins["judge"] = _judge(config.judge)
    if config.model:
        pins |= _model(config.model)
    return pins


def _task(task: EvalTask) -> list[str]:
    path = local_file(task.uri)
    # Read here so that a bad line is found before anything is trained.
    read_questions(task, path)
    return [task.name, _content(path)]


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
    if weights and (index := folder / "model.safetensors.index.json").is_file():
        lacking = sorted(_shards(index, what) - set(names))
        if lacking:
            raise StepError(
                Exit.NO_INPUT,
                f"{what}: {folder} lacks {len(lacking)} files of its weights, such as {lacking[0]}",
                "copy or download the folder again",
            )


def _shards(index: Path, what: str) -> set[str]:
    """Names of the files that an index of weights speaks of."""
    try:
        return set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StepError(
            Exit.DATA, f"{what}: {index} is not an index of weights", "copy or download it again"
        ) from None


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
