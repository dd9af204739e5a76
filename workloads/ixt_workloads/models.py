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
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from ixt_workloads.attention import check_attention, check_documents
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.data.folders import check_folder
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.losses import check_head_dry
from ixt_workloads.store import Artifact, Store
from ixt_workloads.store.base import is_segment
from ixt_workloads.tokenizer import save_tokenizer

transformers_logging: Any = transformers.utils.logging
transformers_logging.disable_progress_bar()


@contextmanager
def gathered(artifact: Artifact) -> Iterator[Path]:
    """The files of a committed model in one folder, each checked."""
    with tempfile.TemporaryDirectory(prefix="ixt-model-") as name:
        artifact.link_into(Path(name))
        yield Path(name)


def load_model(folder: Path, dtype: torch.dtype | None = torch.float32) -> Any:
    """A causal language model with its weights, from safetensors only. No dtype: the one in config.json.

    Raises StepError: NO_INPUT without config or weights, DATA for pickled, torn or ill-fitting weights.
    """
    return _loaded(folder, load_config(folder), dtype=dtype or "auto")


def _loaded(folder: Path, config: Any, **how: Any) -> Any:
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
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **how,
        )
    except Exception as error:  # noqa: BLE001 - families raise what they like
        raise _refused(f"weights in {folder} do not fit its config.json", error, Exit.DATA) from None
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise StepError(
            Exit.DATA,
            f"weights in {folder} lack {len(missing)} tensors, such as {missing[0]}",
            "the folder is incomplete, or config.json belongs to another model",
        )
    unknown = sorted(report["unexpected_keys"])
    if unknown:
        raise StepError(
            Exit.DATA,
            f"weights in {folder} hold {len(unknown)} tensors that its config.json does not know, such as "
            f"{unknown[0]}: the model would be trained without them",
            "config.json belongs to another model, or was edited (num_hidden_layers)",
        )
    return model


def dry_load(folder: Path, *, weights: bool) -> Any:
    """The model of a folder without memory for weights (on torch's meta device), after one step forward: what
    would fail when it is trained or exported fails here, in seconds. Without `weights` it is made of its
    config.json alone.

    Raises StepError with all that transformers says.
    """
    config = load_config(folder)
    if quantised := getattr(config, "quantization_config", None):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        raise StepError(
            Exit.CONFIG,
            f"the weights in {folder} are quantised ({method}), which cannot be trained",
            "take a checkpoint in bfloat16 or float32",
        )
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise StepError(
            Exit.CONFIG,
            f"{folder / 'config.json'} is of a {config.model_type}, of which transformers "
            f"{transformers.__version__} has no causal language model",
            "take a model that continues text: Llama, Qwen, Gemma, ...",
        )
    try:
        with torch.device("meta"):
            build: Any = AutoModelForCausalLM.from_config
            # In bfloat16, which experts' products on the meta device ask for.
            model = build(config, dtype=torch.bfloat16, trust_remote_code=False)
        check_attention(model)
        for module in model.modules():
            if isinstance(module, PreTrainedModel):
                # It looks into ids, which on the meta device are none.
                module.warn_if_padding_and_no_attention_mask = lambda *_: None  # type: ignore[method-assign]
        check_documents(model)
        check_head_dry(model)
    except StepError:
        raise
    except Exception as error:  # noqa: BLE001 - families raise what they like
        raise _refused(f"no model can be made of {folder / 'config.json'}", error, Exit.CONFIG) from None
    if weights:
        _loaded(folder, config, dtype=torch.bfloat16, device_map="meta")
    check_generation(folder)
    return model


def check_generation(folder: Path) -> None:
    """Raise StepError for a generation_config.json that transformers would refuse to save with an export."""
    if not (folder / "generation_config.json").is_file():
        return
    try:
        GenerationConfig.from_pretrained(folder, local_files_only=True).validate(strict=True)
    except Exception as error:  # noqa: BLE001 - as above
        what = f"{folder / 'generation_config.json'} cannot be saved again"
        raise _refused(
            what, error, Exit.CONFIG, "repair it: settings of sampling go with do_sample true"
        ) from None


def _refused(what: str, error: Exception, code: Exit, hint: str = "") -> StepError:
    """The error for what transformers refuses, in its own words, on one line."""
    said = " ".join(str(error).split())
    if not isinstance(error, ValueError):
        said = f"{type(error).__name__}: {said}"
    hint = hint or f"transformers {transformers.__version__} must know it as a causal language model"
    return StepError(code, f"{what}: {said}", hint)


def check_context(config: Any, length: int) -> None:
    """Raises StepError(CONFIG) for sequences longer than the model's positions."""
    most = getattr(config.get_text_config(), "max_position_embeddings", None) or length
    if length > most:
        raise StepError(
            Exit.CONFIG,
            f"prepare.sequenceLength is {length}, the model has {most} positions",
            "lower prepare.sequenceLength, or raise max_position_embeddings in the model's config.json",
        )


def new_model(folder: Path, seed: int) -> Any:
    """A model after the `config.json` of a folder with fresh float32 weights, the same for the same seed."""
    config = load_config(folder)
    torch.manual_seed(seed)
    build: Any = AutoModelForCausalLM.from_config
    return build(config, dtype=torch.float32, trust_remote_code=False)


def on_meta(folder: Path) -> Any:
    """The model after the `config.json` of a folder without memory for weights, in float32."""
    config = load_config(folder)
    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return build(config, dtype=torch.float32, trust_remote_code=False)


def load_config(folder: Path) -> Any:
    """The transformers config of a folder. Raises StepError."""
    check_folder(folder, "model", weights=False, tokenizer=False)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - families raise what they like
        raise _refused(f"{folder / 'config.json'} cannot be used", error, Exit.CONFIG) from None


def check_vocabulary(model_vocabulary: int, needed: int) -> None:
    """Raises StepError(CONFIG) when the data holds ids that the model does not know."""
    if needed > model_vocabulary:
        raise StepError(
            Exit.CONFIG,
            f"the tokenizer has {needed} tokens, the model's vocab_size is {model_vocabulary}",
            "set vocab_size in config.json to at least the tokenizer's size, or use its own tokenizer",
        )


_CARRIED = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*", "generation_config.json")
_MOST_CARRIED = 2**20
"""Bytes of a file that goes with a model's weights wherever they go."""


def carried(folder: Path) -> dict[str, bytes]:
    """Files of a model's folder that its export has too: what its licence asks for, and how it generates."""
    found = {path for pattern in _CARRIED for path in folder.glob(pattern)}
    return {
        path.name: path.read_bytes()
        for path in sorted(found)
        if path.is_file() and path.stat().st_size <= _MOST_CARRIED and is_segment(path.name)
    }


def save_folder(
    folder: Path,
    model: Any,
    tokenizer: Any,
    *,
    state: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    contract: Prefixes | None,
    others: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model folder that asks for the contract's best level by default (None: a plain folder).

    `model` gives architecture and config, `state` the weights by name, tied ones once; `others` are files
    that the model came with (`carried`).
    """
    for name, content in (others or {}).items():
        (folder / name).write_bytes(content)
    if others and "generation_config.json" in others:
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    weights = {name: value.to(dtype) for name, value in state.items()}
    # Files of a size that every store takes at once, but for tensors that are larger.
    model.save_pretrained(folder, max_shard_size="240MB", state_dict=weights)
    path = folder / "config.json"
    # save_pretrained wrote the dtype that the model was trained in.
    name = str(dtype).removeprefix("torch.")
    settings = {**json.loads(path.read_text()), "dtype": name}
    if "text_config" in settings:
        settings["text_config"]["dtype"] = name
    path.write_text(json.dumps(settings, indent=1))
    save_tokenizer(folder, tokenizer, contract)


def check_size(model: Any, dtype: torch.dtype, store: Store) -> None:
    """Raises StepError(CONFIG) for a tensor that the store would refuse when the model is exported."""
    name, value = max(model.named_parameters(), key=lambda each: each[1].numel())
    if value.numel() * dtype.itemsize > 0.99 * store.largest:
        raise StepError(
            Exit.CONFIG,
            f"{name} has {value.numel() * dtype.itemsize:,} bytes, and {store.uri} takes files of "
            f"{store.largest:,} at most",
            "train with precision BF16, or keep artifacts on a volume (pvc://)",
        )
