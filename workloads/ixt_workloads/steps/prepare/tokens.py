"""Turns documents and conversations into tokens, in batches that bound the memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ixt_workloads.chat_template import ChatTemplate, Refused, Rendered, Span
from ixt_workloads.contract.settings import LossOnFeedback
from ixt_workloads.data.chat import Conversation

BATCH_CHARACTERS = 2**20
"""A tokenizer needs about a hundred bytes a token while it works."""


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


@dataclass
class Conversations:
    """Conversations as tokens."""

    texts: list[Tokenized] = field(default_factory=list)
    """One of a conversation, or several where its template renders earlier turns otherwise later."""
    places: list[int] = field(default_factory=list)
    """Which conversation each of them is of."""
    refused: dict[int, str] = field(default_factory=dict)
    """Conversations that the template does not take, and why."""
    lost: dict[str, int] = field(default_factory=dict)
    """Conversations with something that the template does not show, by what it is."""


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

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template. Raises StepError(CONFIG) when there is none."""
        return ChatTemplate(self._tokenizer)

    def takes(self, messages: str) -> bool:
        """Whether the template takes a conversation, given as JSON, as well with a turn for feedback."""
        try:
            for feedback in ("", "Quality: 1"):
                self.template.rendered(Conversation.from_json(messages), feedback)
        except Refused:
            return False
        return True

    def conversations(
        self, messages: Iterable[str], prefixes: Sequence[str], loss: LossOnFeedback
    ) -> "Conversations":
        """Conversations, given as JSON, in the tokenizer's chat template: feedback in the system text, and
        what the assistant says as targets."""
        found = Conversations()
        texts: list[Rendered] = []
        for place, (text, prefix) in enumerate(zip(messages, prefixes, strict=True)):
            try:
                rendered = self.template.rendered(Conversation.from_json(text), prefix)
            except Refused as why:
                found.refused[place] = str(why)
                continue
            for lost in frozenset[str]().union(*(part.lost for part in rendered)):
                found.lost[lost] = found.lost.get(lost, 0) + 1
            texts += rendered
            found.places += [place] * len(rendered)
        nothing = np.zeros(0, self._dtype)
        for encoding, part in zip(self._encode([part.text for part in texts]), texts, strict=True):
            starts = np.asarray([offset[0] for offset in encoding.offsets], np.int64)
            targets = [*part.said, part.feedback] if loss is LossOnFeedback.INCLUDE else part.said
            mask = np.zeros(len(starts), np.uint8)
            for span in targets:
                mask[_within(starts, span)] = 1
            count = int(_within(starts, part.feedback).sum())
            ids = self._ids(encoding)
            found.texts.append(Tokenized(nothing, nothing.astype(np.uint8), ids, mask, count))
        return found

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
