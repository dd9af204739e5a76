"""Model folders before anything is loaded: what a folder in Hugging Face's layout must hold, and must not."""

import json
from pathlib import Path

from ixt_workloads.contract.exits import Exit, StepError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


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
