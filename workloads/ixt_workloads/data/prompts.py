"""Prompts with reference answers, from rows as the usual data sets have them. Pure.

- plain: {"prompt": a text or turns, "answer": …} and any other fields;
- verl: {"data_source", "prompt", "reward_model": {"ground_truth": …}, "extra_info"};
- SkyRL: {"prompt", "env_class", "reward_spec": {"ground_truth": …}}.
"""

import json
from collections.abc import Mapping
from datetime import date, time
from typing import Any, NamedTuple

from ixt_workloads.contract.settings import Dataset
from ixt_workloads.data.chat import Conversation, Turn, Unusable, turns_of

ANSWERS = ("answer", "ground_truth", "reward_model.ground_truth", "reward_spec.ground_truth", "solution")
"""Where a reference answer is looked for, in this order."""


class Prompt(NamedTuple):
    """What a model is asked, and what is known of the answer."""

    turns: list[Turn]
    """Ends with what a user or a tool says."""
    reference: Any
    """The reference answer as JSON has it; None for none."""
    columns: dict[str, Any]
    """The row's other fields by their names, the answer's too: what verifiers are told."""
    plain: bool
    """The row has the prompt as a text."""

    @property
    def conversation(self) -> Conversation:
        """The prompt as the beginning of a conversation."""
        return Conversation(self.turns)

    def answer_json(self) -> str | None:
        """The reference as it stands in artifacts, in the column `answer`."""
        return None if self.reference is None else json.dumps(self.reference, ensure_ascii=False)

    def extra_json(self) -> str:
        """The rest as it stands in artifacts, in the column `extra`."""
        return json.dumps({"plain": self.plain, "columns": self.columns}, ensure_ascii=False)


def prompt_of(dataset: Dataset, row: Mapping[str, Any], *, needs_reference: bool) -> Prompt:
    """The prompt of a row. Raises Unusable for one that cannot be asked, or verified as it must be
    (`noPrompt`, `noAnswer`, `endsWithAnswer`, `notText`), ValueError saying what is malformed."""
    asked = row.get(dataset.prompt_field)
    plain = isinstance(asked, str)
    if asked is None or (plain and not asked.strip()) or asked == []:
        raise Unusable("noPrompt")
    try:
        turns = turns_of([{"role": "user", "content": asked}] if plain else asked)
    except ValueError as error:
        raise ValueError(f"field {dataset.prompt_field!r} {error}") from None
    if turns[-1]["role"] == "assistant":
        raise Unusable("endsWithAnswer")
    if not any(turn["content"].strip() for turn in turns if turn["role"] != "system"):
        raise Unusable("noPrompt")
    reference = _plain(_reference(dataset, row))
    if reference is None and needs_reference:
        raise Unusable("noAnswer")
    columns = {name: _plain(value) for name, value in row.items() if name != dataset.prompt_field}
    return Prompt(turns, reference, columns, plain)


def told_of(extra: str | None) -> tuple[dict[str, Any], bool]:
    """Columns and `plain` of what `extra_json` wrote."""
    value = json.loads(extra or "{}")
    return value.get("columns", {}), bool(value.get("plain", False))


def _reference(dataset: Dataset, row: Mapping[str, Any]) -> Any:
    for path in (dataset.answer_field,) if dataset.answer_field else ANSWERS:
        found = row[path] if path in row else _below(row, path)
        if found is not None and not (isinstance(found, str) and not found.strip()):
            return found
    return None


def _below(row: Any, path: str) -> Any:
    """What lies in a row at a path with dots; None for nothing."""
    for name in path.split("."):
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def _plain(value: Any) -> Any:
    """A value as JSON has it: dates as texts, what is no text at all (images, sounds) left out."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items() if not isinstance(each, bytes)}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        # A number that JSON does not have, such as NaN, says nothing.
        return None if isinstance(value, float) and value - value != 0 else value
    return None if isinstance(value, bytes) else str(value)
