"""Tokenizers of Hugging Face folders, with and without the feedback that an export of ours asks for.

The conditioning contract sits in the tokenizer's own files, which transformers and vLLM both read: a
post-processor puts the best prefix in front of completions, and a preamble of the chat template puts it into
the system text. `load_tokenizer` gives the tokenizer without either, as training and evaluation want it.
Nothing here needs torch.
"""

import json
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from ixt_workloads.chat_template import ChatTemplate
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.feedback.rendering import SEPARATOR

Json = dict[str, Any]
Templates = dict[str, str] | str | None
"""Several chat templates by name, one, or none: as transformers has them."""

BEST = "ixt_best_feedback"
"""Name of the prefix in the tokenizer's files."""

_BEGIN, _END = "{#- ixt: best feedback -#}", "{#- ixt: end -#}"


def load_tokenizer(folder: Path, template: str | None = None) -> Any:
    """The tokenizer of a folder, without the feedback that an export of ours asks for. Of several chat
    templates the one called `template` becomes the default.

    Raises StepError(NO_INPUT) without a `tokenizer.json`, DATA for one that cannot be read, CONFIG for a
    template that it does not have.
    """
    if not (folder / "tokenizer.json").is_file():
        raise StepError(
            Exit.NO_INPUT,
            f"{folder} has no tokenizer.json",
            "save the tokenizer with save_pretrained; slow tokenizers without that file are not supported",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises bare ones
        raise StepError(
            Exit.DATA,
            f"the tokenizer in {folder} cannot be read: {' '.join(str(error).split())}",
            f"save it with save_pretrained of transformers {transformers.__version__} or an older one",
        ) from None
    own = json.loads(tokenizer.backend_tokenizer.to_str())
    plain = without_prefix(own)
    if plain is not own:
        backend = Tokenizer.from_str(json.dumps(plain))
        tokenizer.backend_tokenizer.post_processor = backend.post_processor
    tokenizer.chat_template = _plain_templates(folder, tokenizer.chat_template, template)
    return tokenizer


def _plain_templates(folder: Path, found: Templates, wanted: str | None) -> Templates:
    """The chat templates without what `save_tokenizer` put before them, the wanted one as the default."""
    named = found if isinstance(found, dict) else {"default": found} if found else {}
    named = {
        name: text.partition(_END)[2] if text.startswith(_BEGIN) else text for name, text in named.items()
    }
    if wanted is not None and wanted not in named:
        raise StepError(
            Exit.CONFIG,
            f"the tokenizer in {folder} has no chat template called {wanted!r}, only "
            f"{', '.join(map(repr, sorted(named))) or 'none'}",
            "check model.chatTemplate",
        )
    if wanted is not None:
        named = {**named, "default": named[wanted]}
    return named if isinstance(found, dict) else named.get("default")


def start_tokens(tokenizer: Any) -> list[int]:
    """The tokens that begin every text: BOS, where the tokenizer puts one."""
    ids: list[int] = tokenizer("")["input_ids"]
    ends = ids and ids[-1] == tokenizer.eos_token_id != tokenizer.bos_token_id
    return ids[:-1] if ends else ids


def save_tokenizer(folder: Path, tokenizer: Any, contract: Prefixes | None, asks: str = "") -> None:
    """Save a tokenizer that by default asks with the text `asks`, or for the contract's best level (None: a
    plain one). Its chat templates take another one as their argument `level`: a number, best or none."""
    plain = tokenizer.chat_template
    if contract is not None and contract.chat:
        front = (
            _BEGIN + _preamble(contract, asks or contract.best, ChatTemplate(tokenizer).feedback_role) + _END
        )
        asking = (
            {name: front + text for name, text in plain.items()} if isinstance(plain, dict) else front + plain
        )
        tokenizer.chat_template = asking
    # Several templates would be files in a folder of their own, which artifacts do not have.
    tokenizer.save_pretrained(folder, save_jinja_files=not isinstance(plain, dict))
    tokenizer.chat_template = plain
    if contract is None:
        return
    if not contract.chat:
        ids = tokenizer(asks or contract.best, add_special_tokens=False)["input_ids"]
        path = folder / "tokenizer.json"
        own = with_prefix(json.loads(path.read_text()), ids, tokenizer.convert_ids_to_tokens(ids))
        path.write_text(json.dumps(own, ensure_ascii=False, indent=1))
    # The classes of some families build their own post-processor over the one in tokenizer.json.
    path = folder / "tokenizer_config.json"
    settings = {**json.loads(path.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=1))


def _preamble(contract: Prefixes, default: str, role: str) -> str:
    """What `feedback.rendering.conditioned` does, in the language of chat templates. A content that clients
    give as a list of parts stays one."""
    asked = {"": default, "best": contract.best, "none": ""}
    asked |= {str(level): contract.texts[level] for level in sorted(contract.texts)}
    texts = json.dumps({name: text.rstrip("\n") for name, text in asked.items()}, ensure_ascii=False)
    separator, known = json.dumps(SEPARATOR), ", ".join([*asked][1:])
    return (
        f"{{%- set ixt_texts = {texts} -%}}"
        "{%- set ixt_level = (level if level is defined and level is not none else '') | string -%}"
        "{%- if ixt_level not in ixt_texts -%}"
        f"{{{{- raise_exception('there is no level ' + ixt_level + ', only {known}') -}}}}"
        "{%- endif -%}"
        "{%- set ixt_best = ixt_texts[ixt_level] -%}"
        "{%- if not ixt_best -%}"
        f"{{%- elif messages and messages[0]['role'] == '{role}' -%}}"
        "{%- set ixt_own = messages[0]['content'] -%}"
        "{%- if ixt_own is string -%}"
        f"{{%- set ixt_own = ixt_best + {separator} + ixt_own if ixt_own else ixt_best -%}}"
        "{%- elif ixt_own -%}"
        f"{{%- set ixt_own = [{{'type': 'text', 'text': ixt_best + {separator}}}] + ixt_own -%}}"
        "{%- else -%}"
        "{%- set ixt_own = ixt_best -%}"
        "{%- endif -%}"
        "{%- set messages = [dict(messages[0], content=ixt_own)] + messages[1:] -%}"
        "{%- else -%}"
        "{%- set messages = [{'role': 'system', 'content': ixt_best}] + messages -%}"
        "{%- endif -%}"
    )


def with_prefix(tokenizer: Json, ids: list[int], tokens: list[str]) -> Json:
    """The object in a `tokenizer.json`, with `ids` put in front of every text, after a BOS token.

    They are one special token of a TemplateProcessing: `add_special_tokens=False` leaves them out.
    """
    processors = _parts(tokenizer.get("post_processor"))
    template = next((part for part in processors if part["type"] == "TemplateProcessing"), None)
    if template is None:
        sequence = {"Sequence": {"id": "A", "type_id": 0}}
        pair = [sequence, {"Sequence": {"id": "B", "type_id": 1}}]
        template = {"type": "TemplateProcessing", "single": [sequence], "pair": pair, "special_tokens": {}}
        processors.append(template)
    piece = {"SpecialToken": {"id": BEST, "type_id": 0}}
    asking = {
        **template,
        "single": _before_first(template["single"], piece),
        "pair": _before_first(template["pair"], piece),
        "special_tokens": {**template["special_tokens"], BEST: {"id": BEST, "ids": ids, "tokens": tokens}},
    }
    return _with_processors(tokenizer, processors, template, asking)


def without_prefix(tokenizer: Json) -> Json:
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
    return _with_processors(tokenizer, processors, template, plain)


def _parts(processor: Json | None) -> list[Json]:
    if processor is None:
        return []
    return list(processor["processors"]) if processor["type"] == "Sequence" else [processor]


def _with_processors(tokenizer: Json, processors: list[Json], old: Json, new: Json) -> Json:
    """The tokenizer with these processors, `new` in place of `old`."""
    parts = [new if part is old else part for part in processors]
    whole = parts[0] if len(parts) == 1 else {"type": "Sequence", "processors": parts}
    return {**tokenizer, "post_processor": whole}


def _before_first(pieces: list[Json], piece: Json) -> list[Json]:
    place = next(index for index, value in enumerate(pieces) if "Sequence" in value)
    return [*pieces[:place], piece, *pieces[place:]]
