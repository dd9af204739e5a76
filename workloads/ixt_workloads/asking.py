"""Asking an exported model for a level: the tokens of a prompt, for transformers and for vLLM alike. Needs no
torch. docs/models.md shows both calls."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ixt_workloads.chat_template import ChatTemplate
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.feedback.prefixes import FILE, Prefixes
from ixt_workloads.tokenizer import load_tokenizer, start_tokens

Level = int | Literal["best", "none"]


class Asker:
    """Makes prompts for the model in a folder."""

    def __init__(self, folder: Path | str) -> None:
        """Raises StepError for a folder that is no export of ixt's."""
        self.folder = Path(folder)
        try:
            told = json.loads((self.folder / FILE).read_bytes())
        except (OSError, ValueError):
            raise StepError(
                Exit.NO_INPUT, f"{folder} has no {FILE} that can be read", "name a folder that ixt exported"
            ) from None
        self.contract = None if told is None else Prefixes.model_validate(told)
        self.tokenizer = load_tokenizer(self.folder)

    def ids(self, prompt: str | Sequence[Mapping[str, Any]], level: Level = "best") -> list[int]:
        """The tokens of a text to go on with, or of a conversation to answer, which ask for a level. A text
        that bears a prefix already, whichever, is given no other. Raises StepError for a level that there is
        not."""
        asked = self.text(level)
        contract = self.contract
        if contract is None or not contract.chat:
            if not isinstance(prompt, str):
                raise StepError(Exit.USAGE, "the model was not trained on conversations", "give it a text")
            text = prompt if self._bears(prompt) else asked + prompt
            return [*start_tokens(self.tokenizer), *self._tokens(text)]
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [*prompt]
        first = turns[0]["content"] if turns else ""
        feedback = "" if isinstance(first, str) and self._bears(first) else asked
        text, (start, _) = ChatTemplate(self.tokenizer).asked([dict(turn) for turn in turns], "", feedback)
        return self._tokens(text[:start])

    def text(self, level: Level) -> str:
        """The prefix that asks for a level; empty for none."""
        return asked_for(self.contract, level)

    def _bears(self, text: str) -> bool:
        contract = self.contract
        known = (contract.best, contract.worst, *contract.by_level.values()) if contract else ()
        return any(text.startswith(prefix.rstrip("\n")) for prefix in known)

    def _tokens(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found


def asked_for(contract: Prefixes | None, level: Level) -> str:
    """The text that asks a model with this contract for a level; empty for none, and for the best of a model
    that knows no feedback. Raises StepError, naming the nearest, for a level that there is not."""
    if level == "none" or (contract is None and level == "best"):
        return ""
    if contract is None:
        raise StepError(Exit.CONFIG, "the model was trained without feedback: it has no levels", "say none")
    if level == "best":
        return contract.best
    texts = contract.texts
    if level not in texts:
        nearest = min(texts, key=lambda known: abs(known - level))
        known = ", ".join(map(str, sorted(texts)))
        raise StepError(Exit.CONFIG, f"there is no level {level}, only {known}", f"the nearest is {nearest}")
    return texts[level]
