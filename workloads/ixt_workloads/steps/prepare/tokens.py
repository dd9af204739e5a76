"""Documents and conversations to tokens, in batches that bound the memory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.steps import LossOnFeedback
from ixt_workloads.feedback.rendering import conditioned

BATCH_CHARACTERS = 2**21
"""A tokenizer needs about a hundred bytes a token while it works."""


@dataclass(frozen=True)
class Tokenized:
    """One document: what stands in front of each of its parts, and its body."""

    prefix: np.ndarray
    prefix_mask: np.ndarray
    """1 where a prefix token is a target."""
    body: np.ndarray
    mask: np.ndarray
    """1 where a body token is a target."""


class Tokenizing:
    """A tokenizer with the few things that Prepare asks of it."""

    def __init__(self, tokenizer: Any, start: Sequence[int]) -> None:
        """`start` are the tokens that begin every text: BOS, where the tokenizer has one."""
        self._tokenizer = tokenizer
        self._start = np.asarray(start, np.uint32)
        eos = tokenizer.eos_token_id
        self._end = np.asarray([] if eos is None else [eos], np.uint32)
        self.vocabulary = len(tokenizer)
        self.pad = eos or 0

    def cut(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Texts cut to a number of tokens."""
        found = []
        for text, encoding in zip(texts, self._encode(texts), strict=True):
            long = len(encoding.ids) > tokens
            found.append(text[: encoding.offsets[tokens - 1][1]].rstrip() if long else text)
        return found

    def documents(
        self, texts: Sequence[str], prefixes: Sequence[str], loss: LossOnFeedback
    ) -> list[Tokenized]:
        """Documents behind their prefixes. Both are tokenised apart: the mask is exact, and the evaluation
        does the same."""
        known = {text: _ids(encoding) for text, encoding in self._pairs(sorted({*prefixes} - {""}))}
        found = []
        bodies = (_ids(encoding) for encoding in self._encode(texts))
        for prefix, ids in zip(prefixes, bodies, strict=True):
            feedback = known.get(prefix, np.zeros(0, np.uint32))
            front = np.concatenate([self._start, feedback])
            mask = np.zeros(len(front), np.uint8)
            if loss is LossOnFeedback.INCLUDE:
                mask[len(self._start) :] = 1
            body = np.concatenate([ids, self._end])
            found.append(Tokenized(front, mask, body, np.ones(len(body), np.uint8)))
        return found

    def conversations(
        self, rows: Sequence[Mapping[str, Any]], prefixes: Sequence[str], loss: LossOnFeedback
    ) -> list[Tokenized]:
        """Conversations in the tokenizer's chat template, feedback in the system text; what the assistant
        says is a target."""
        texts, spans = [], []
        for row, prefix in zip(rows, prefixes, strict=True):
            messages = json.loads(row["messages"])
            turns = conditioned(messages, prefix) if prefix else messages
            text, found = self._spans(turns)
            if prefix and loss is LossOnFeedback.INCLUDE:
                feedback = prefix.rstrip("\n")
                at = text.find(feedback)
                found.append((at, at + len(feedback)))
            texts.append(text)
            spans.append(found)
        made = []
        nothing = np.zeros(0, np.uint32)
        for encoding, found in zip(self._encode(texts), spans, strict=True):
            starts = np.asarray([offset[0] for offset in encoding.offsets], np.int64)
            mask = np.zeros(len(starts), np.uint8)
            for low, high in found:
                mask[(starts >= low) & (starts < high)] = 1
            made.append(Tokenized(nothing, nothing.astype(np.uint8), _ids(encoding), mask))
        return made

    def _spans(self, turns: Sequence[Mapping[str, str]]) -> tuple[str, list[tuple[int, int]]]:
        """A conversation as text, and where in it the assistant speaks, the end of the turn included."""
        whole = self._render(turns, prompt=False)
        found = []
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
            found.append((len(before), len(after)))
        return whole, found

    def _render(self, turns: Sequence[Mapping[str, str]], *, prompt: bool) -> str:
        text = self._tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=prompt)
        return str(text)

    def _pairs(self, texts: Sequence[str]) -> Iterator[tuple[str, Any]]:
        return zip(texts, self._encode(texts), strict=True)

    def _encode(self, texts: Sequence[str]) -> Iterator[Any]:
        """Encodings in order, a bounded batch at a time."""
        backend = self._tokenizer.backend_tokenizer
        batch: list[str] = []
        size = 0
        for text in texts:
            batch.append(text)
            size += len(text)
            if size >= BATCH_CHARACTERS:
                yield from backend.encode_batch(batch, add_special_tokens=False)
                batch, size = [], 0
        if batch:
            yield from backend.encode_batch(batch, add_special_tokens=False)


def _ids(encoding: Any) -> np.ndarray:
    return np.asarray(encoding.ids, np.uint32)
