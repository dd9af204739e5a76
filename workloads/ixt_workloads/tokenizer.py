"""Tokenizers of Hugging Face folders, with and without the feedback that an export of ours asks for.

The conditioning contract sits in the tokenizer's own files, which transformers and vLLM both read: a
post-processor puts the best prefix in front of completions, and a preamble of the chat template puts it into
the system text. `load_tokenizer` gives the tokenizer without either, as training and evaluation want it.
Nothing here needs torch.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.feedback.rendering import SEPARATOR

BEST = "ixt_best_feedback"
"""Name of the prefix in the tokenizer's files."""

_BEGIN, _END = "{#- ixt: best feedback -#}", "{#- ixt: end -#}"


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
        raise StepError(
            Exit.DATA, f"the tokenizer in {folder} cannot be read: {error}", "save it with save_pretrained"
        ) from None
    own = json.loads(tokenizer.backend_tokenizer.to_str())
    plain = without_prefix(own)
    if plain is not own:
        tokenizer.backend_tokenizer.post_processor = Tokenizer.from_str(json.dumps(plain)).post_processor
    template = tokenizer.chat_template
    if isinstance(template, str) and template.startswith(_BEGIN):
        tokenizer.chat_template = template.partition(_END)[2]
    return tokenizer


def start_tokens(tokenizer: Any) -> list[int]:
    """The tokens that begin every text: BOS, where the tokenizer puts one."""
    ids: list[int] = tokenizer("")["input_ids"]
    ends = ids and ids[-1] == tokenizer.eos_token_id != tokenizer.bos_token_id
    return ids[:-1] if ends else ids


def ask_for(folder: Path, tokenizer: Any, contract: Prefixes) -> None:
    """Make the tokenizer saved in a folder ask for the contract's best level by default."""
    best = contract.best
    if contract.chat:
        plain = tokenizer.chat_template
        tokenizer.chat_template = _BEGIN + _preamble(best) + _END + plain
        tokenizer.save_pretrained(folder)
        tokenizer.chat_template = plain
    else:
        ids = tokenizer(best, add_special_tokens=False)["input_ids"]
        path = folder / "tokenizer.json"
        own = with_prefix(json.loads(path.read_text()), ids, tokenizer.convert_ids_to_tokens(ids))
        path.write_text(json.dumps(own, ensure_ascii=False, indent=1))
    # The classes of some families build their own post-processor over the one in tokenizer.json.
    path = folder / "tokenizer_config.json"
    settings = {**json.loads(path.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=1))


def _preamble(best: str) -> str:
    """What `feedback.rendering.conditioned` does, in the language of chat templates."""
    text, separator = (json.dumps(words, ensure_ascii=False) for words in (best.rstrip("\n"), SEPARATOR))
    return (
        f"{{%- set ixt_best = {text} -%}}"
        "{%- if messages and messages[0]['role'] == 'system' -%}"
        "{%- if messages[0]['content'] -%}"
        f"{{%- set ixt_best = ixt_best + {separator} + messages[0]['content'] -%}}"
        "{%- endif -%}"
        "{%- set messages = [{'role': 'system', 'content': ixt_best}] + messages[1:] -%}"
        "{%- else -%}"
        "{%- set messages = [{'role': 'system', 'content': ixt_best}] + messages -%}"
        "{%- endif -%}"
    )


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
