"""Scores of a model: accuracy on tasks and log-probability of held-out documents, by feedback.

Everything is teacher-forced, so that it is fast enough to run inside training. An answer counts as right when
the model's most likely token is the right one at every place of the answer, and an end (end of text, end of
turn or a new line) right after it. That is the same as greedy generation giving just that answer: while all
tokens before were right, teacher forcing and generation have read the same text.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist

from ixt_workloads.chat_template import ChatTemplate, Span
from ixt_workloads.contract.configs import EvaluateConfig, TrainConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.metrics import HELD_OUT_LOSS, SCORE, TRUE
from ixt_workloads.contract.settings import EvalPrefix
from ixt_workloads.data.chat import Conversation, Turn
from ixt_workloads.data.parquet import rows_of
from ixt_workloads.data.questions import Question, read_questions
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.feedback.rendering import prefix as rendered
from ixt_workloads.losses import IGNORED, token_losses
from ixt_workloads.progress import Reporter
from ixt_workloads.store import Artifact
from ixt_workloads.tokenizer import start_tokens

BATCH_TOKENS = {"cpu": 4096, "cuda": 32_768}
"""Tokens of a forward pass, by the kind of device."""

MOST_ITEMS = 4096
"""Places for results of single items: enough for intervals, and a few kilobytes an evaluation."""

Group = tuple[str, str, str]
"""What a sequence counts for: ("task", its name, prefix) or ("document", its level, prefix)."""


@dataclass(frozen=True)
class _Sequence:
    """One row of a forward pass, whose targets are `ids[first:end]`."""

    group: Group
    ids: tuple[int, ...]
    first: int
    end: int
    item: int
    """Number of the question in its task, or of the held-out document."""
    targets: tuple[bool, ...] | None = None
    """Which of `ids[first:end]` count; None: all."""

    @property
    def counted(self) -> int:
        """Tokens that count."""
        return self.end - self.first if self.targets is None else sum(self.targets)


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
        self.contract = contract
        self.holdout = holdout
        self.tasks = tasks
        self.prefixes = list(prefixes) if contract else [EvalPrefix.NONE]
        self._max_length = max_length
        self._random = random.Random(seed)
        self._chat = chat
        self._start = start_tokens(tokenizer)
        self._sequences: list[_Sequence] = []
        for name, questions in tasks.items():
            for number, question in enumerate(questions, 1):
                self._add_question(name, number, question)
        for number, row in enumerate(holdout):
            self._add_document(number, row)

    @classmethod
    def of(
        cls, config: TrainConfig | EvaluateConfig, prepared: Artifact, tokenizer: Any, max_length: int
    ) -> Self:
        """The evaluation that a step is told to do, with what its Prepare held out."""
        return cls(
            tokenizer,
            Prefixes.read(prepared),
            rows_of(prepared.file("holdout.parquet")),
            {task.name: read_questions(task) for task in config.evaluate.tasks},
            config.evaluate.prefixes,
            chat=config.stage_type.is_chat,
            max_length=max_length,
            seed=config.seed,
        )

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
        beat: Callable[[int], None] = lambda tokens: None,
    ) -> dict[str, Any]:
        """Scores in the shape of `evaluation.json`'s `scores`. Every rank calls it and gets the same.

        `beat` is called before every forward pass with the tokens that all ranks have read so far.
        All ranks run the same number of forward passes, as sharded models need it.
        """
        # Columns: nats, right.
        found = torch.zeros(len(self._sequences), 2, dtype=torch.float64, device=device)
        batches = self._batches(BATCH_TOKENS[device.type])
        training = model.training
        model.eval()
        lengths = [sum(len(self._sequences[place].ids) for place in batch) for batch in batches]
        for first in range(0, len(batches), size):
            beat(sum(lengths[:first]))
            index = first + rank
            counted = index < len(batches)
            places = batches[index if counted else 0]
            batch = [self._sequences[place] for place in places]
            with (
                torch.autocast(device.type, torch.bfloat16, enabled=bf16),
                torch.compiler.set_stance("force_eager"),
            ):
                rows = self._score_batch(model, batch, device)
            if counted:
                found[torch.tensor(places, device=device)] = rows
        model.train(training)
        if size > 1:
            dist.all_reduce(found)
        results = found.cpu().numpy()
        items = _items(self._sequences, results, len(self.holdout))
        return {**_shape(self._sequences, results), "items": items}

    def _score_batch(self, model: Any, batch: Sequence[_Sequence], device: torch.device) -> torch.Tensor:
        """[sequences, 2] of nats and right. Padding stands on the right, where causal
        attention never looks from a target."""
        longest = max(len(sequence.ids) for sequence in batch)
        ids = torch.zeros(len(batch), longest + 1, dtype=torch.long)
        labels = torch.full((len(batch), longest), IGNORED)
        counts = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, sequence in enumerate(batch):
            first, end = sequence.first - 1, sequence.end - 1
            ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
            # What follows the last target is asked for too: whether it ends the answer.
            labels[row, first : end + 1] = ids[row, first + 1 : end + 2]
            counts[row, first:end] = True if sequence.targets is None else torch.tensor(sequence.targets)
        ids, labels, counts = ids.to(device), labels.to(device), counts.to(device)
        found = token_losses(model, {"input_ids": ids[:, :-1]}, labels.reshape(-1))
        nats, best = found.nats.reshape(labels.shape), found.best.reshape(labels.shape)
        right = ((best == labels) | ~counts).all(1)
        following = [best[row, sequence.end - 1] for row, sequence in enumerate(batch)]
        ends = torch.tensor(list(map(self._ends, following, batch)))
        return torch.stack([(nats.double() * counts).sum(1), (right & ends.to(device)).double()], 1)

    def _ends(self, token: torch.Tensor, sequence: _Sequence) -> bool:
        """Whether the most likely token after an answer ends it."""
        if sequence.group[0] != "task":
            return True
        value = int(token)
        return value in self.ends or self.tokenizer.decode([value]).startswith("\n")

    def _batches(self, tokens: int) -> list[list[int]]:
        """Places of sequences of like length together, the longest first, so that too little memory shows at
        once."""
        lengths = [len(sequence.ids) for sequence in self._sequences]
        batches: list[list[int]] = []
        for place in sorted(range(len(lengths)), key=lambda p: (-lengths[p], self._sequences[p].first)):
            if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens:
                batches[-1].append(place)
            else:
                batches.append([place])
        return batches

    def prefix_text(self, prefix: EvalPrefix) -> str | None:
        """Feedback that a prefix stands for; None for none. Random draws anew each time."""
        if self.contract is None or prefix is EvalPrefix.NONE:
            return None
        match prefix:
            case EvalPrefix.BEST:
                return self.contract.best
            case EvalPrefix.WORST:
                return self.contract.worst
        return self._random.choice(list(self.contract.by_level.values()))

    def _add_question(self, name: str, number: int, question: Question) -> None:
        for prefix in self.prefixes:
            context, answer = self.ask(question.prompt, question.answer, self.prefix_text(prefix))
            end = len(context) + len(answer)
            if end > self._max_length:
                raise StepError(
                    Exit.DATA,
                    f"task {name}, item {number}: {end} tokens with feedback, more than {self._max_length}",
                    "shorten the item or raise prepare.sequenceLength",
                )
            group = ("task", name, prefix.value)
            ids = (*context, *answer)
            self._sequences.append(_Sequence(group, ids, len(context), end, number - 1))

    def ask(
        self, prompt: str | Sequence[Turn], answer: str, feedback: str | None
    ) -> tuple[list[int], list[int]]:
        """Tokens of a prompt, or in a chat of the turns before an answer, under some feedback, and of the
        answer.

        A space between prompt and answer belongs to the answer's first token, as in running text.
        """
        if self._chat:
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            text, span = self._template.asked(turns, answer, feedback or "")
            ids, (first, end) = self._placed(text, span)
            return ids[:first], ids[first:end]
        assert isinstance(prompt, str)
        stripped = prompt.rstrip(" ")
        context, whole = self._ids(stripped), self._ids(prompt + answer)
        if whole[: len(context)] != context:
            whole = [*context, *self._ids(prompt[len(stripped) :] + answer)]
        return [*self.front(feedback), *context], whole[len(context) :]

    def front(self, feedback: str | None) -> list[int]:
        """What stands before every text that is no conversation: a start token, and the feedback."""
        return [*self._start, *self._ids(feedback or "")]

    def _add_document(self, number: int, row: Mapping[str, Any]) -> None:
        """A held-out document under each prefix, cut to the same tokens for all of them."""
        level = int(row["level"])
        feedback = {prefix.value: self.prefix_text(prefix) for prefix in self.prefixes}
        if self.contract is not None:
            # A document without feedback counts here too, so that every prefix covers the same documents.
            feedback[TRUE] = self._true(self.contract, level, row["critique"])
        made = {
            name: self._conversation(Conversation.from_json(row["messages"]), text or "")
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
                self._sequences.append(
                    _Sequence(group, all_ids, len(context), len(all_ids), number, tuple(kept))
                )

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
        self, conversation: Conversation, feedback: str
    ) -> tuple[list[int], list[int], list[bool]]:
        """The same of a conversation, where what the assistant says counts: as it is taught. Of one that is
        taught in several texts it is the whole."""
        whole = self._template.rendered(conversation, feedback)[0]
        ids, (first, _) = self._placed(whole.text, whole.said[0])
        starts = [start for start, _ in self._encoded(whole.text).offsets]
        counted = [any(start <= at < end for start, end in whole.said) for at in starts]
        return ids[:first], ids[first:], counted[first:]

    def _placed(self, text: str, span: Span) -> tuple[list[int], Span]:
        """The tokens of a text, and which of them have a part of a span; those that begin before it too."""
        found = self._encoded(text)
        ids: list[int] = found.ids
        first = next((i for i, (_, end) in enumerate(found.offsets) if end > span[0]), len(ids))
        end = next((i for i, (start, _) in enumerate(found.offsets) if start >= span[1]), len(ids))
        return ids, (first, max(first, end))

    def _encoded(self, text: str) -> Any:
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return ids

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer: end of text, and in a chat what the template puts after it."""
        ends = {self.tokenizer.eos_token_id}
        if self._chat:
            text, span = self._template.asked([{"role": "user", "content": "q"}], "a")
            ids, (_, end) = self._placed(text, span)
            ends.update(ids[end : end + 1])
        return frozenset(ends - {None})


def _shape(sequences: Sequence[_Sequence], found: np.ndarray) -> dict[str, Any]:
    """Nats and right of each sequence to the shape of `evaluation.json`'s `scores`."""
    sums: dict[Group, np.ndarray] = defaultdict(lambda: np.zeros(4))
    for sequence, (nats, right) in zip(sequences, found, strict=True):
        sums[sequence.group] += (nats, sequence.counted, right, 1)
    tasks: dict[str, dict[str, Any]] = defaultdict(dict)
    documents: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    levels: dict[int, dict[str, Any]] = {}
    for (kind, name, prefix), (nats, tokens, right, items) in sorted(
        (group, values.tolist()) for group, values in sums.items()
    ):
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


def _items(sequences: Sequence[_Sequence], found: np.ndarray, documents: int) -> dict[str, Any]:
    """What arms are compared by, item by item: for each task and prefix the right answers and the questions,
    for the documents without prefix nats and tokens. Beyond MOST_ITEMS, items share a place in turn."""
    questions: Counter[tuple[str, str]] = Counter(
        (s.group[1], s.group[2]) for s in sequences if s.group[0] == "task"
    )
    tasks: dict[str, dict[str, Any]] = defaultdict(dict)
    for (name, prefix), number in questions.items():
        if prefix in (EvalPrefix.BEST, EvalPrefix.NONE):
            tasks[name][prefix] = np.zeros((2, min(number, MOST_ITEMS)))
    held = np.zeros((2, min(documents, MOST_ITEMS)))
    for sequence, (nats, right) in zip(sequences, found, strict=True):
        kind, name, prefix = sequence.group
        if kind == "task" and prefix in tasks[name]:
            tasks[name][prefix][:, sequence.item % MOST_ITEMS] += (right, 1)
        elif kind == "document" and prefix == EvalPrefix.NONE:
            held[:, sequence.item % MOST_ITEMS] += (nats, sequence.counted)
    return {
        "tasks": {
            name: {
                prefix: {"right": values[0].astype(int).tolist(), "items": values[1].astype(int).tolist()}
                for prefix, values in by_prefix.items()
            }
            for name, by_prefix in tasks.items()
        },
        "documents": {"nats": held[0].round(3).tolist(), "tokens": held[1].astype(int).tolist()},
    }


def tell(scores: Mapping[str, Any], reporter: Reporter) -> None:
    """Tell the scores of a model as figures."""
    for prefix, found in scores["documents"].items():
        reporter.set(HELD_OUT_LOSS, found["nll"], prefix)
    for name, by_prefix in scores["tasks"].items():
        for prefix, found in by_prefix.items():
            reporter.set(SCORE, found["accuracy"], prefix, name)
