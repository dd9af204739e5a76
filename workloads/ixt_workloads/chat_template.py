"""Conversations as text, by a tokenizer's chat template: the one form in which Prepare teaches, Evaluate asks
and an export is served. Nothing here needs torch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import jinja2

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.data.chat import REASONING, Conversation, Turn
from ixt_workloads.feedback.rendering import conditioned

DATE = datetime(2025, 1, 1)
"""What `strftime_now` tells in training and evaluation: a key stands for the same bytes on every day."""

Span = tuple[int, int]
"""Characters [start, end) of a text."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_QUESTION: Turn = {"role": "user", "content": "ixt asks"}
_ANSWER: Turn = {"role": "assistant", "content": "ixt answers"}
_FEEDBACK = "ixt-says: 1/5"


class Refused(Exception):  # noqa: N818 - no error: the conversation is dropped and counted
    """The template does not take a conversation, or does not show all that is to be learnt; says why."""


@dataclass(frozen=True)
class Rendered:
    """A conversation, or its beginning, as text."""

    text: str
    feedback: Span
    """Where the feedback stands; empty without any."""
    said: list[Span]
    """What the assistant says here and is to be learnt, the ends of its turns included."""
    lost: frozenset[str]
    """What the conversation has and the template does not show: `reasoning`, `tools`."""


class ChatTemplate:
    """A tokenizer's chat template. Of several named ones it is that called `default`."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises StepError(CONFIG) when there is none, or no `default` among several."""
        # Imported here: a process that needs no torch says so before it imports transformers.
        from transformers.utils.chat_template_utils import render_jinja_template

        self._jinja: Any = render_jinja_template
        source = tokenizer.chat_template
        if isinstance(source, dict):
            if "default" not in source:
                raise StepError(
                    Exit.CONFIG,
                    f"the tokenizer has several chat templates ({', '.join(sorted(source))}) and none is the "
                    "default",
                    "name one: model.chatTemplate",
                )
            source = source["default"]
        if not source:
            raise StepError(
                Exit.CONFIG,
                f"the tokenizer in {tokenizer.name_or_path} has no chat template",
                "an SFT stage needs one: add it",
            )
        self._source: str = source
        self._tokens: dict[str, Any] = tokenizer.special_tokens_map
        self._marks = bool(_GENERATION.search(source))

    @cached_property
    def feedback_role(self) -> str:
        """Whose turn the feedback begins: `system`, or `user` for a template that takes no system text."""
        try:
            text, _ = self._render(conditioned([_QUESTION, _ANSWER], _FEEDBACK), None)
        except Refused:
            return "user"
        return "system" if _FEEDBACK in text else "user"

    def check(self, feedback: str | None) -> None:
        """Raise StepError(CONFIG) unless a question and its answer can be taught in this template, with
        feedback that it shows as it is, if there is any."""
        try:
            plain = self.rendered(Conversation([_QUESTION, _ANSWER]))[0]
            told = self.rendered(Conversation([_QUESTION, _ANSWER]), feedback or "")[0]
        except Refused as error:
            raise StepError(
                Exit.CONFIG,
                f"the tokenizer's chat template refuses a question and its answer: {error}",
                "repair the template, or give another tokenizer",
            ) from None
        for shown in (plain, told):
            start, end = shown.said[0]
            if _ANSWER["content"] not in shown.text[start:end]:
                raise StepError(
                    Exit.CONFIG,
                    "the tokenizer's chat template does not show what the assistant says as it is",
                    "give a tokenizer whose template does",
                )

    def rendered(self, conversation: Conversation, feedback: str = "") -> list[Rendered]:
        """The texts that teach what the assistant says: one, or several where the template renders an earlier
        turn otherwise once more turns follow. Then each text ends with a turn as it is when it is asked for,
        the whole conversation first, and every answer is learnt in one of them.

        Raises Refused.
        """
        turns = self._conditioned(conversation.turns, feedback)
        left = [
            place
            for place, turn in enumerate(turns)
            if turn["role"] == "assistant" and turn.get("weight") != 0
        ]
        found = []
        while left:
            part = turns[: left[-1] + 1]
            text, marked = self._render(part, conversation.tools)
            spans = self._said(part, conversation.tools, text, marked, left)
            if left[-1] not in spans:
                raise Refused(
                    "it renders an answer otherwise than it begins one (add_generation_prompt), so what the "
                    "assistant says cannot be told apart"
                )
            lost = self._lost(part, conversation.tools, text, spans)
            said = [spans[place] for place in sorted(spans)]
            found.append(Rendered(text, _place(text, feedback.rstrip("\n")), said, lost))
            left = [place for place in left if place not in spans]
        return found

    def prompted(self, conversation: Conversation, feedback: str = "") -> str:
        """A conversation up to where the assistant goes on, as it is taught. Raises Refused."""
        turns = self._conditioned(conversation.turns, feedback)
        return self._render(turns, conversation.tools, prompt=True)[0]

    def asked(self, turns: Sequence[Turn], answer: str, feedback: str = "") -> tuple[str, Span]:
        """A conversation that ends with an answer, as text that training would have taught, and where in it
        the answer's own words stand. What the template puts between is the question's. Raises Refused."""
        asked = self._conditioned(turns, feedback)
        texts = [
            self._render([*asked, {"role": "assistant", "content": words}], None)[0]
            for words in ("0", "1", answer or "0")
        ]
        # What stands around an answer is the same for all of them.
        one, other, text = texts
        start = min(_common(one, other), _common(one, text))
        end = len(text) - min(_common(one[::-1], other[::-1]), _common(one[::-1], text[::-1]))
        return text, (start, max(start, end) if answer else start)

    def _conditioned(self, turns: Sequence[Turn], feedback: str) -> list[Turn]:
        if not feedback:
            return [dict(turn) for turn in turns]
        if self.feedback_role == "user" and turns[0]["role"] != "user":
            raise Refused(f"it takes no system text, and the first turn, of {turns[0]['role']}, is no user's")
        return conditioned(turns, feedback, self.feedback_role)

    def _said(
        self,
        turns: Sequence[Turn],
        tools: Any,
        text: str,
        marked: Sequence[Span],
        wanted: Sequence[int],
    ) -> dict[int, Span]:
        """Where the wanted turns are said, by their place; without those that are asked for otherwise."""
        if self._marks:
            places = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
            if len(places) != len(marked):
                raise Refused(f"it marks {len(marked)} of {len(places)} turns of the assistant as generated")
            return {place: span for place, span in zip(places, marked, strict=True) if place in wanted}
        found = {}
        for place in wanted:
            before, _ = self._render(turns[:place], tools, prompt=True)
            after = text if place == len(turns) - 1 else self._render(turns[: place + 1], tools)[0]
            if text.startswith(before) and after.startswith(before) and text.startswith(after):
                found[place] = (len(before), len(after))
        return found

    @staticmethod
    def _lost(turns: Sequence[Turn], tools: Any, text: str, said: Mapping[int, Span]) -> frozenset[str]:
        """What is not shown and may be missing. Raises Refused for what an answer cannot be without."""
        lost = set()
        for place, (start, end) in said.items():
            turn, shown = turns[place], text[start:end]
            if any(call["function"]["name"] not in shown for call in turn.get("tool_calls", ())):
                raise Refused("it does not show calls of tools")
            if turn.get("reasoning") and turn["reasoning"].strip() not in shown:
                lost.add("reasoning")
        for turn in turns:
            if turn["role"] == "tool" and turn["content"].strip() not in text:
                raise Refused("it does not show what tools answer")
        names = (tool.get("function", tool).get("name") for tool in tools or ())
        if any(name and name not in text for name in names):
            lost.add("tools")
        return frozenset(lost)

    def _render(
        self, turns: Sequence[Turn], tools: Any, *, prompt: bool = False
    ) -> tuple[str, Sequence[Span]]:
        """The text, and where the template marks it as generated."""
        try:
            texts, marked = self._jinja(
                conversations=[[_shown(turn) for turn in turns]],
                tools=tools,
                chat_template=self._source,
                return_assistant_tokens_mask=self._marks,
                add_generation_prompt=prompt,
                **{**self._tokens, "strftime_now": DATE.strftime},
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise Refused(f"of {roles}: {error}") from None
        return str(texts[0]), marked[0] if self._marks else ()


def _shown(turn: Turn) -> Turn:
    """A turn as templates know it; reasoning under all of its names."""
    shown = {name: value for name, value in turn.items() if name not in ("reasoning", "weight")}
    return shown | dict.fromkeys(REASONING, turn["reasoning"]) if turn.get("reasoning") else shown


def _place(text: str, feedback: str) -> Span:
    """Where the feedback stands. Raises Refused."""
    at = text.find(feedback)
    if at < 0:
        raise Refused("it does not show the feedback as it is, in the system text or the first turn")
    return at, at + len(feedback)


def _common(one: str, other: str) -> int:
    """Characters at the start that two texts have in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
