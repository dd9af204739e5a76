"""Turns documents and conversations into tokens, in batches that bound the memory."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import LossOnFeedback
from ixt_workloads.feedback.rendering import conditioned

BATCH_CHARACTERS = 2**20
"""A tokenizer needs about a hundred bytes a token while it works."""

Span = tuple[int, int]
"""Characters [start, end) of a text."""


@dataclass(frozen=True)
class Tokenized:
    """One document: the prefix of each of its segments, and its body."""

    prefix: np.ndarray
    prefix_mask: np.ndarray
    """1 where a prefix token is a target."""
    body: np.ndarray
    mask: np.ndarray
    """1 where a body token is a target."""
    feedback: int
    """Tokens of feedback in the prefix or, in a conversation, in the body."""

    @property
    def own(self) -> int:
        """Tokens of the document itself."""
        return len(self.body) - max(0, self.feedback - len(self.prefix))


class Tokenizing:
    """A tokenizer with the few things that Prepare asks of it."""

    def __init__(self, tokenizer: Any, start: Sequence[int]) -> None:
        """`start` are the tokens that begin every text: BOS, where the tokenizer has one."""
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        # A tokenizer.json can ask for both.
        self._backend.no_truncation()
        self._backend.no_padding()
        self.vocabulary = max(tokenizer.get_vocab().values()) + 1
        """Ids there can be: more than there are tokens, where a tokenizer leaves some out."""
        self._dtype = dtype_of(self.vocabulary)
        self._start = np.asarray(start, self._dtype)
        eos = tokenizer.eos_token_id
        self._end = np.asarray([] if eos is None else [eos], self._dtype)
        self.pad = eos or 0

    def cut(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Texts cut to a number of tokens."""
        found = []
        for text, encoding in zip(texts, self._encode(texts), strict=True):
            long = len(encoding.ids) > tokens
            found.append(text[: encoding.offsets[tokens - 1][1]].rstrip() if long else text)
        return found

    def documents(
        self, texts: Iterable[str], prefixes: Sequence[str], loss: LossOnFeedback
    ) -> list[Tokenized]:
        """Documents behind their prefixes. Both are tokenised apart: the mask is exact, and the evaluation
        does the same."""
        different = sorted({*prefixes})
        known = dict(zip(different, map(self._ids, self._encode(different)), strict=True))
        found = []
        for prefix, encoding in zip(prefixes, self._encode(texts), strict=True):
            feedback = known[prefix]
            front = np.concatenate([self._start, feedback])
            mask = np.zeros(len(front), np.uint8)
            if loss is LossOnFeedback.INCLUDE:
                mask[len(self._start) :] = 1
            body = np.concatenate([self._ids(encoding), self._end])
            found.append(Tokenized(front, mask, body, np.ones(len(body), np.uint8), len(feedback)))
        return found

    def conversations(
        self, messages: Iterable[str], prefixes: Sequence[str], loss: LossOnFeedback
    ) -> list[Tokenized]:
        """Conversations, given as JSON, in the tokenizer's chat template: feedback in the system text, and
        what the assistant says as targets."""
        read = [
            self._read(json.loads(turns), prefix) for turns, prefix in zip(messages, prefixes, strict=True)
        ]
        found = []
        nothing = np.zeros(0, self._dtype)
        encodings = self._encode([text for text, _, _ in read])
        for encoding, (_, feedback, said) in zip(encodings, read, strict=True):
            starts = np.asarray([offset[0] for offset in encoding.offsets], np.int64)
            targets = [*said, feedback] if loss is LossOnFeedback.INCLUDE else said
            mask = np.zeros(len(starts), np.uint8)
            for span in targets:
                mask[_within(starts, span)] = 1
            count = int(_within(starts, feedback).sum())
            found.append(Tokenized(nothing, nothing.astype(np.uint8), self._ids(encoding), mask, count))
        return found

    def _read(self, messages: Sequence[Mapping[str, str]], prefix: str) -> tuple[str, Span, list[Span]]:
        """A conversation as text, and where in it the feedback stands and the assistant speaks, the end of
        its turn included."""
        turns = conditioned(messages, prefix) if prefix else messages
        whole = self._render(turns, prompt=False)
        feedback = prefix.rstrip("\n")
        at = whole.find(feedback)
        if at < 0:
            raise StepError(
                Exit.CONFIG,
                "the tokenizer's chat template does not show the system text as it is, so feedback cannot "
                "stand there",
                "give a tokenizer whose template takes a system text",
            )
        said = []
        for place, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            before = self._render(turns[:place], prompt=True)
            after = self._render(turns[: place + 1], prompt=False)
            if not after.startswith(before) or not whole.startswith(after):
                raise StepError(
                    Exit.CONFIG,
                    "the tokenizer's chat template renders a turn differently when more turns follow, so "
                    "what the assistant says cannot be told apart",
                    "give a tokenizer whose template renders turn by turn",
                )
            said.append((len(before), len(after)))
        return whole, (at, at + len(feedback)), said

    def _render(self, turns: Sequence[Mapping[str, str]], *, prompt: bool) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=prompt
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise StepError(
                Exit.DATA,
                f"the tokenizer's chat template refuses a conversation of {roles}: {error}",
                "leave such conversations out, or give a tokenizer whose template takes them; feedback needs "
                "one that takes a system turn",
            ) from None
        return str(text)

    def _encode(self, texts: Iterable[str]) -> Iterator[Any]:
        """Encodings in order, a bounded batch at a time."""
        batch: list[str] = []
        size = 0
        for text in texts:
            batch.append(text)
            size += len(text)
            if size >= BATCH_CHARACTERS:
                yield from self._backend.encode_batch(batch, add_special_tokens=False)
                batch, size = [], 0
        if batch:
            yield from self._backend.encode_batch(batch, add_special_tokens=False)

    def _ids(self, encoding: Any) -> np.ndarray:
        return np.asarray(encoding.ids, self._dtype)


def dtype_of(vocabulary: int) -> type[np.uint16] | type[np.uint32]:
    """The dtype of tokens, given the number of ids there can be."""
    return np.uint16 if vocabulary <= 2**16 else np.uint32


def _within(starts: np.ndarray, span: Span) -> np.ndarray:
    found: np.ndarray = (starts >= span[0]) & (starts < span[1])
    return found
