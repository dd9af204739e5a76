"""Checks of a model folder in Hugging Face's layout, before anything is loaded from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.data.locate import unreadable

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer of a model folder has a chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def context_of(config: Mapping[str, Any]) -> int | None:
    """Tokens of context that the object in a config.json promises; None when it does not say."""
    value = {**config, **(config.get("text_config") or {})}.get("max_position_embeddings")
    return value if isinstance(value, int) and value > 0 else None


def check_folder(folder: Path, what: str, *, weights: bool, tokenizer: bool, config: bool = True) -> None:
    """Raise StepError for a model folder that lacks what is needed, or has its weights as pickle.

    `what` says in messages what the folder is to the run, such as judge or model.
    """
    names = [path.name for path in folder.iterdir()]
    if config and "config.json" not in names:
        raise StepError(Exit.NO_INPUT, f"{what}: {folder} has no config.json", "give a Hugging Face folder")
    if tokenizer and "tokenizer.json" not in names:
        raise StepError(
            Exit.NO_INPUT,
            f"{what}: {folder} has no tokenizer.json",
            "save the tokenizer with save_pretrained into the folder",
        )
    for name in ("config.json" if config else "", "tokenizer.json" if tokenizer else ""):
        if name and not isinstance(_json(folder / name, what), dict):
            raise _damaged(folder / name, what)
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
        lacking = sorted(_weight_files(index, what) - set(names))
        if lacking:
            raise StepError(
                Exit.NO_INPUT,
                f"{what}: {folder} lacks {len(lacking)} files of its weights, such as {lacking[0]}",
                "copy or download the folder again",
            )


def _weight_files(index: Path, what: str) -> set[str]:
    """Names of the files that an index of weights speaks of."""
    try:
        return set(_json(index, what)["weight_map"].values())
    except (KeyError, TypeError, AttributeError):
        raise _damaged(index, what) from None


def _json(file: Path, what: str) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        raise _damaged(file, what) from None
    except OSError as error:
        raise unreadable(f"{what}: {file}", error) from None


def _damaged(file: Path, what: str) -> StepError:
    return StepError(Exit.DATA, f"{what}: {file} is damaged", "copy or download it again")
