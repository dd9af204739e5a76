"""Scores of a model: accuracy on tasks and log-probability of held-out documents, by feedback.

Everything is teacher-forced, so that it is fast enough to run inside training. An answer counts as right when
the model's most likely token is the right one at every place of the answer, and an end (end of text, end of
turn or a new line) right after it. That is the same as greedy generation giving just that answer: while all
tokens before were right, teacher forcing and generation have read the same text.
"""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from torch.nn import functional

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import EvalPrefix
from ixt_workloads.data.questions import Question
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.feedback.rendering import conditioned
from ixt_workloads.feedback.rendering import prefix as rendered
from ixt_workloads.tokenizer import start_tokens

TRUE = "True"
"""Name of the prefix that is a held-out document's own feedback."""

_BATCH_TOKENS = {"cpu": 4096, "cuda": 32_768}

Group = tuple[str, str, str]
"""What a sequence counts for: ("task", its name, prefix) or ("document", its level, prefix)."""


@dataclass(frozen=True)
class _Sequence:
    """One row of a forward pass, whose targets are `ids[first:end]`."""

    group: Group
    ids: tuple[int, ...]
    first: int
    end: int
    targets: tuple[bool, ...] | None = None
    """Which of `ids[first:end]` count; None: all."""


class Evaluation:
    """Questions and documents, tokenised once, to be scored any number of times."""

    def __init__(
        self,
        tokenizer: Any,
        contract: Prefixes | None,
        holdout: Sequence[Mapping[str, Any]],
        tasks: Mapping[str, Sequence[Question]],
        prefixes: Iterable[EvalPrefix],
        *,
        chat: bool,
        max_length: int,
        seed: int,
    ) -> None:
        """`holdout` are rows of Prepare's holdout.parquet; `tokenizer` must not add feedback of its own.

        Without a contract only the prefix None is asked for. Sequences are cut, and questions refused, at
        `max_length` tokens.
        """
        self.tokenizer = tokenizer
        self._contract = contract
        self._prefixes = list(prefixes) if contract else [EvalPrefix.NONE]
        self._max_length = max_length
        self._random = random.Random(seed)
        self._chat = chat
        self._start = start_tokens(tokenizer)
        self._sequences: list[_Sequence] = []
        for name, questions in tasks.items():
            for number, question in enumerate(questions, 1):
                self._add_question(name, number, question)
        for row in holdout:
            self._add_document(row)

    @cached_property
    def tokens(self) -> int:
        """Tokens that one scoring reads, over all ranks."""
        return sum(len(sequence.ids) for sequence in self._sequences)

    @torch.no_grad()
    def score(
        self,
        model: Any,
        device: torch.device,
        rank: int = 0,
        size: int = 1,
        *,
        bf16: bool = False,
        beat: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Scores in the shape of `evaluation.json`'s `scores`. Every rank calls it and gets the same.

        All ranks run the same number of forward passes, as sharded models need it.
        """
        groups = sorted({sequence.group for sequence in self._sequences})
        place = {group: index for index, group in enumerate(groups)}
        # Columns: nats, tokens, right, items.
        sums = torch.zeros(len(groups), 4, dtype=torch.float64, device=device)
        batches = self._batches(_BATCH_TOKENS[device.type])
        training = model.training
        model.eval()
        for first in range(0, len(batches), size):
            beat()
            index = first + rank
            counted = index < len(batches)
            batch = batches[index if counted else 0]
            with (
                torch.autocast(device.type, torch.bfloat16, enabled=bf16),
                torch.compiler.set_stance("force_eager"),
            ):
                rows = self._score_batch(model, batch, device)
            if counted:
                sums.index_add_(0, torch.tensor([place[s.group] for s in batch], device=device), rows)
        model.train(training)
        if size > 1:
            dist.all_reduce(sums)
        return _shape(dict(zip(groups, sums.tolist(), strict=True)))

    def _score_batch(self, model: Any, batch: Sequence[_Sequence], device: torch.device) -> torch.Tensor:
        """[sequences, 4] of nats, tokens, right and items. Padding stands on the right, where causal
        attention never looks from a target."""
        longest = max(len(sequence.ids) for sequence in batch)
        earliest = min(sequence.first for sequence in batch) - 1
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, sequence in enumerate(batch):
            ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
            wanted = True if sequence.targets is None else torch.tensor(sequence.targets)
            mask[row, sequence.first : sequence.end] = wanted
        ids, mask = ids.to(device), mask.to(device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=longest - earliest).logits.float()
        shifted, counts = ids[:, earliest + 1 :], mask[:, earliest + 1 :]
        nats = functional.cross_entropy(logits[:, :-1].transpose(1, 2), shifted, reduction="none")
        best = logits.argmax(-1)
        right = ((best[:, :-1] == shifted) | ~counts).all(1)
        ends = torch.tensor([self._ends(best[row, s.end - 1 - earliest], s) for row, s in enumerate(batch)])
        columns = [(nats.double() * counts).sum(1), counts.sum(1), right & ends.to(device)]
        return torch.stack([*[c.double() for c in columns], torch.ones_like(columns[0])], 1)

    def _ends(self, token: torch.Tensor, sequence: _Sequence) -> bool:
        """Whether the most likely token after an answer ends it."""
        if sequence.group[0] != "task":
            return True
        value = int(token)
        return value in self.ends or self.tokenizer.decode([value]).startswith("\n")

    def _batches(self, tokens: int) -> list[list[_Sequence]]:
        """Sequences of like length together, the longest first, so that too little memory shows at once."""
        batches: list[list[_Sequence]] = []
        for sequence in sorted(self._sequences, key=lambda s: (-len(s.ids), s.first)):
            if batches and (len(batches[-1]) + 1) * len(batches[-1][0].ids) <= tokens:
                batches[-1].append(sequence)
            else:
                batches.append([sequence])
        return batches

    def prefix_text(self, prefix: EvalPrefix) -> str | None:
        """Feedback that a prefix stands for; None for none. Random draws anew each time."""
        if self._contract is None or prefix is EvalPrefix.NONE:
            return None
        match prefix:
            case EvalPrefix.BEST:
                return self._contract.best
            case EvalPrefix.WORST:
                return self._contract.worst
        return self._random.choice(list(self._contract.by_level.values()))

    def _add_question(self, name: str, number: int, question: Question) -> None:
        for prefix in self._prefixes:
            context, answer = self.ask(question.prompt, question.answer, self.prefix_text(prefix))
            end = len(context) + len(answer)
            if end > self._max_length:
                raise StepError(
                    Exit.DATA,
                    f"task {name}, item {number}: {end} tokens with feedback, more than {self._max_length}",
                    "shorten the item or raise prepare.sequenceLength",
                )
            group = ("task", name, prefix.value)
            self._sequences.append(_Sequence(group, (*context, *answer), len(context), end))

    def ask(self, prompt: str, answer: str, feedback: str | None) -> tuple[list[int], list[int]]:
        """Tokens of a prompt under some feedback, and of its answer.

        A space between prompt and answer belongs to the answer's first token, as in running text.
        """
        if self._chat:
            return self._turns([{"role": "user", "content": prompt}], feedback), self._ids(answer)
        stripped = prompt.rstrip(" ")
        context, whole = self._ids(stripped), self._ids(prompt + answer)
        if whole[: len(context)] != context:
            whole = [*context, *self._ids(prompt[len(stripped) :] + answer)]
        return [*self._start, *self._ids(feedback or ""), *context], whole[len(context) :]

    def _add_document(self, row: Mapping[str, Any]) -> None:
        """A held-out document under each prefix, cut to the same tokens for all of them."""
        level = int(row["level"])
        feedback = {prefix.value: self.prefix_text(prefix) for prefix in self._prefixes}
        if self._contract is not None:
            # A document without feedback counts here too, so that every prefix covers the same documents.
            feedback[TRUE] = self._true(self._contract, level, row["critique"])
        made = {
            name: self._conversation(json.loads(row["messages"]), text)
            if self._chat
            else self._document(row["text"], text)
            for name, text in feedback.items()
        }
        room = self._max_length - max(len(context) for context, _, _ in made.values())
        for name, (context, ids, targets) in made.items():
            kept = targets[: max(room, 0)]
            if any(kept):
                all_ids = (*context, *ids[: len(kept)])
                group = ("document", str(level), name)
                self._sequences.append(_Sequence(group, all_ids, len(context), len(all_ids), tuple(kept)))

    @staticmethod
    def _true(contract: Prefixes, level: int, critique: str | None) -> str | None:
        if not level or (critique is None and contract.format.says):
            return None
        return rendered(contract.format, level, contract.levels, critique or "")

    def _document(self, text: str, feedback: str | None) -> tuple[list[int], list[int], list[bool]]:
        """Context, tokens, and which count: not the first one, where the tokenizer has no start token."""
        context, ids = [*self._start, *self._ids(feedback or "")], self._ids(text)
        if self._start or not ids:
            return context, ids, [True] * len(ids)
        return [*context, ids[0]], ids[1:], [True] * (len(ids) - 1)

    def _conversation(
        self, messages: list[dict[str, str]], feedback: str | None
    ) -> tuple[list[int], list[int], list[bool]]:
        """The same of a conversation, where what the assistant says counts."""
        first = next(
            (i for i, message in enumerate(messages) if message["role"] == "assistant"), len(messages)
        )
        context = self._turns(messages[:first], feedback)
        ids: list[int] = []
        targets: list[bool] = []
        for index in range(first, len(messages)):
            asked = messages[index]["role"] == "assistant"
            following = index + 1 < len(messages) and messages[index + 1]["role"] == "assistant"
            whole = self._turns(messages[: index + 1], feedback, prompt=following)
            new = whole[len(context) + len(ids) :]
            ids += new
            targets += [asked] * len(new)
        return context, ids, targets

    def _turns(
        self, messages: list[dict[str, str]], feedback: str | None, *, prompt: bool = True
    ) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            conditioned(messages, feedback) if feedback else messages,
            tokenize=False,
            add_generation_prompt=prompt,
        )
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return ids

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer: end of text, and in a chat what the template puts after it."""
        ends = {self.tokenizer.eos_token_id}
        if self._chat:
            turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
            _, ids, _ = self._conversation(turns, None)
            ends.update(ids[len(self._ids("a")) :][:1])
        return frozenset(ends - {None})


def _shape(sums: Mapping[Group, Sequence[float]]) -> dict[str, Any]:
    """Sums by group to the shape of `evaluation.json`'s `scores`."""
    tasks: dict[str, dict[str, Any]] = defaultdict(dict)
    documents: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    levels: dict[int, dict[str, Any]] = {}
    for (kind, name, prefix), (nats, tokens, right, items) in sums.items():
        if kind == "task":
            tasks[name][prefix] = {
                "accuracy": right / items, "nll": nats / max(1.0, tokens), "items": int(items),
            }  # fmt: skip
            continue
        documents[prefix][0] += nats
        documents[prefix][1] += tokens
        level = levels.setdefault(int(name), {"level": int(name), "nll": {}, "documents": 0})
        level["documents"] = max(level["documents"], int(items))
        if prefix in (EvalPrefix.NONE, TRUE, EvalPrefix.BEST):
            level["nll"][prefix] = nats / max(1.0, tokens)
    return {
        "tasks": dict(tasks),
        "documents": {
            prefix: {"nll": nats / max(1.0, tokens), "tokens": int(tokens)}
            for prefix, (nats, tokens) in documents.items()
        },
        "levels": [levels[level] for level in sorted(levels)],
    }


def read_holdout(path: Path) -> list[dict[str, Any]]:
    """Rows of Prepare's holdout.parquet."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
