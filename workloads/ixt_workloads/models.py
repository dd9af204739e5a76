"""Hugging Face model folders: read with care, written so that they ask for the best level by default.

The conditioning contract sits in the tokenizer's own files, which transformers and vLLM both read: a
post-processor puts the best prefix in front of completions, and a preamble of the chat template puts it into
the system text. `load_tokenizer` gives the tokenizer without either, as training and evaluation want it.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.feedback.contract import ConditioningContract
from ixt_workloads.feedback.rendering import SEPARATOR
from ixt_workloads.store import Artifact

transformers_logging: Any = transformers.utils.logging
transformers_logging.disable_progress_bar()

BEST = "ixt_best_feedback"
"""Name of the prefix in the tokenizer's files."""

_BEGIN, _END = "{#- ixt: best feedback -#}", "{#- ixt: end -#}"
_PREAMBLE = (
    "{%- set ixt_best = BEST -%}"
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{%- if messages[0]['content'] -%}{%- set ixt_best = ixt_best + SEPARATOR + messages[0]['content'] -%}"
    "{%- endif -%}"
    "{%- set messages = [{'role': 'system', 'content': ixt_best}] + messages[1:] -%}"
    "{%- else -%}"
    "{%- set messages = [{'role': 'system', 'content': ixt_best}] + messages -%}"
    "{%- endif -%}"
)


@contextmanager
def gathered(artifact: Artifact) -> Iterator[Path]:
    """The files of a committed model in one folder, each checked: object stores cache them one by one."""
    with tempfile.TemporaryDirectory(prefix="ixt-model-") as name:
        folder = Path(name)
        for path in artifact.paths:
            (folder / path).symlink_to(artifact.file(path).resolve())
        yield folder


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, without the feedback that an export of ours asks for.

    Raises StepError(NO_INPUT) without a `tokenizer.json`, DATA for one that cannot be read.
    """
    if not (folder / "tokenizer.json").is_file():
        raise StepError(
            Exit.NO_INPUT,
            f"{folder} has no tokenizer.json",
            "save the tokenizer with save_pretrained; slow tokenizers without that file are not supported",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise StepError(Exit.DATA, f"the tokenizer in {folder} cannot be read: {error}") from None
    own = json.loads(tokenizer.backend_tokenizer.to_str())
    plain = without_prefix(own)
    if plain is not own:
        tokenizer.backend_tokenizer.post_processor = _post_processor(plain)
    template = tokenizer.chat_template
    if isinstance(template, str) and template.startswith(_BEGIN):
        tokenizer.chat_template = template.partition(_END)[2]
    return tokenizer


def start_tokens(tokenizer: Any) -> list[int]:
    """The tokens that begin every text: BOS, where the tokenizer puts one."""
    ids: list[int] = tokenizer("")["input_ids"]
    ends = ids and ids[-1] == tokenizer.eos_token_id != tokenizer.bos_token_id
    return ids[:-1] if ends else ids


def load_model(folder: Path, dtype: torch.dtype | None = torch.float32) -> Any:
    """A causal language model with its weights, from safetensors only. No dtype: the one in config.json.

    Raises StepError: NO_INPUT without config or weights, DATA for pickled, torn or ill-fitting weights.
    """
    config = load_config(folder)
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        if pickled:
            raise StepError(
                Exit.DATA,
                f"{folder} has its weights as a pickle ({pickled[0]}), which could run code: refused",
                "convert them: model.save_pretrained(folder) in transformers writes safetensors",
            )
        raise StepError(
            Exit.NO_INPUT,
            f"{folder} has no weights (*.safetensors)",
            "name a folder with weights, or use model.config and model.tokenizer to start from scratch",
        )
    for name in found:
        try:
            with safe_open(folder / name, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise StepError(
                Exit.DATA, f"weights {folder / name} cannot be read: {error}", "copy them again"
            ) from None
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
    if not (folder / "config.json").is_file():
        raise StepError(Exit.NO_INPUT, f"{folder} has no config.json", "name a folder with a model")
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
    contract: ConditioningContract | None,
) -> None:
    """Write a model folder that asks for the contract's best level by default (None: a plain folder).

    `model` gives architecture and config, `state` the weights by name.
    """
    # Object stores take files of at most 256 MB.
    weights = {name: value.to(dtype) for name, value in state.items()}
    model.save_pretrained(folder, max_shard_size="240MB", state_dict=weights)
    # It writes the dtype that the model trained in.
    _edit_json(folder / "config.json", dtype=str(dtype).removeprefix("torch."))
    tokenizer.save_pretrained(folder)
    if contract is not None:
        _ask_for(folder, tokenizer, contract)


def _ask_for(folder: Path, tokenizer: Any, contract: ConditioningContract) -> None:
    best = contract.best
    if contract.chat:
        # What `feedback.rendering.conditioned` does, in the template's language.
        texts = {"BEST": best.rstrip("\n"), "SEPARATOR": SEPARATOR}
        preamble = _PREAMBLE
        for name, text in texts.items():
            preamble = preamble.replace(name, json.dumps(text, ensure_ascii=False))
        plain = tokenizer.chat_template
        tokenizer.chat_template = _BEGIN + preamble + _END + plain
        tokenizer.save_pretrained(folder)
        tokenizer.chat_template = plain
    else:
        ids = tokenizer(best, add_special_tokens=False)["input_ids"]
        path = folder / "tokenizer.json"
        own = with_prefix(json.loads(path.read_text()), ids, tokenizer.convert_ids_to_tokens(ids))
        path.write_text(json.dumps(own, ensure_ascii=False, indent=1))
    # The classes of some families build their own post-processor over the one in tokenizer.json.
    _edit_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")


def _edit_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, ensure_ascii=False, indent=1))


def with_prefix(tokenizer: dict[str, Any], ids: list[int], tokens: list[str]) -> dict[str, Any]:
    """The object in a `tokenizer.json`, with `ids` put in front of every text, after a BOS token.

    They are one special token of a TemplateProcessing: `add_special_tokens=False` leaves them out.
    """
    old = tokenizer.get("post_processor")
    template = next((part for part in _parts(old) if part["type"] == "TemplateProcessing"), None)
    if template is None:
        sequence = {"Sequence": {"id": "A", "type_id": 0}}
        pair = [sequence, {"Sequence": {"id": "B", "type_id": 1}}]
        template = {"type": "TemplateProcessing", "single": [sequence], "pair": pair, "special_tokens": {}}
        processors = [*_parts(old), template]
    else:
        processors = _parts(old)
    piece = {"SpecialToken": {"id": BEST, "type_id": 0}}
    asking = {
        **template,
        "single": _before_first(template["single"], piece),
        "pair": _before_first(template["pair"], piece),
        "special_tokens": {**template["special_tokens"], BEST: {"id": BEST, "ids": ids, "tokens": tokens}},
    }
    return {**tokenizer, "post_processor": _joined([asking if p is template else p for p in processors])}


def without_prefix(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Undoes `with_prefix`; the same object when there is nothing to undo."""
    processors = _parts(tokenizer.get("post_processor"))
    template = next((part for part in processors if BEST in part.get("special_tokens", {})), None)
    if template is None:
        return tokenizer
    plain = {
        **template,
        "single": [p for p in template["single"] if p.get("SpecialToken", {}).get("id") != BEST],
        "pair": [p for p in template["pair"] if p.get("SpecialToken", {}).get("id") != BEST],
        "special_tokens": {name: value for name, value in template["special_tokens"].items() if name != BEST},
    }
    return {**tokenizer, "post_processor": _joined([plain if p is template else p for p in processors])}


def _parts(processor: dict[str, Any] | None) -> list[dict[str, Any]]:
    if processor is None:
        return []
    return list(processor["processors"]) if processor["type"] == "Sequence" else [processor]


def _joined(processors: list[dict[str, Any]]) -> dict[str, Any]:
    return processors[0] if len(processors) == 1 else {"type": "Sequence", "processors": processors}


def _before_first(pieces: list[dict[str, Any]], piece: dict[str, Any]) -> list[dict[str, Any]]:
    place = next(index for index, value in enumerate(pieces) if "Sequence" in value)
    return [*pieces[:place], piece, *pieces[place:]]


def _post_processor(tokenizer: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(tokenizer)).post_processor
