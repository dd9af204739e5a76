"""Reads model folders in Hugging Face's layout, and writes ones that ask for the best level by default."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.data.folders import check_folder
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.store import Artifact
from ixt_workloads.tokenizer import ask_for

transformers_logging: Any = transformers.utils.logging
transformers_logging.disable_progress_bar()


@contextmanager
def gathered(artifact: Artifact) -> Iterator[Path]:
    """The files of a committed model in one folder, each checked: object stores cache them one by one."""
    with tempfile.TemporaryDirectory(prefix="ixt-model-") as name:
        folder = Path(name)
        for path in artifact.paths:
            (folder / path).symlink_to(artifact.file(path).resolve())
        yield folder


def load_model(folder: Path, dtype: torch.dtype | None = torch.float32) -> Any:
    """A causal language model with its weights, from safetensors only. No dtype: the one in config.json.

    Raises StepError: NO_INPUT without config or weights, DATA for pickled, torn or ill-fitting weights.
    """
    config = load_config(folder)
    check_folder(folder, "model", weights=True, tokenizer=False, config=False)
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise StepError(Exit.DATA, f"weights {path} cannot be read: {error}", "copy them again") from None
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype or "auto",
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise StepError(Exit.DATA, f"weights in {folder} do not fit its config.json: {error}") from None
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise StepError(
            Exit.DATA,
            f"weights in {folder} lack {len(missing)} tensors, such as {missing[0]}",
            "the folder is incomplete, or config.json belongs to another model",
        )
    return model


def new_model(folder: Path, seed: int) -> Any:
    """A model after the `config.json` of a folder with fresh float32 weights, the same for the same seed."""
    config = load_config(folder)
    torch.manual_seed(seed)
    build: Any = AutoModelForCausalLM.from_config
    return build(config, dtype=torch.float32)


def load_config(folder: Path) -> Any:
    """The transformers config of a folder. Raises StepError."""
    check_folder(folder, "model", weights=False, tokenizer=False)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise StepError(Exit.CONFIG, f"{folder / 'config.json'} cannot be used: {error}") from None


def check_vocabulary(model_vocabulary: int, needed: int) -> None:
    """Raises StepError(CONFIG) when the data holds ids that the model does not know."""
    if needed > model_vocabulary:
        raise StepError(
            Exit.CONFIG,
            f"the tokenizer has {needed} tokens, the model's vocab_size is {model_vocabulary}",
            "set vocab_size in config.json to at least the tokenizer's size, or use its own tokenizer",
        )


def save_folder(
    folder: Path,
    model: Any,
    tokenizer: Any,
    *,
    state: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    contract: Prefixes | None,
) -> None:
    """Write a model folder that asks for the contract's best level by default (None: a plain folder).

    `model` gives architecture and config, `state` the weights by name.
    """
    # Object stores take files of at most 256 MB.
    weights = {name: value.to(dtype) for name, value in state.items()}
    model.save_pretrained(folder, max_shard_size="240MB", state_dict=weights)
    path = folder / "config.json"
    # save_pretrained wrote the dtype that the model was trained in.
    settings = {**json.loads(path.read_text()), "dtype": str(dtype).removeprefix("torch.")}
    path.write_text(json.dumps(settings, indent=1))
    tokenizer.save_pretrained(folder)
    if contract is not None:
        ask_for(folder, tokenizer, contract)
