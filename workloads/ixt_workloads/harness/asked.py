"""The trained model as the harness knows it: every request gets the prefix that is asked for, completions and
conversations, and those for likelihoods too."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from ixt_workloads.chat_template import Refused
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import EvalPrefix
from ixt_workloads.evaluation import Evaluation
from ixt_workloads.harness.engines import Pair, Scorer, Wanted, Writer

MOST_NEW_TOKENS = 256
"""Tokens of an answer where its task sets no limit, as in the harness."""

_NEVER = -1e9
"""Log-likelihood of what cannot be asked, for want of context."""


class Turns(str):
    """A conversation as the harness carries it: JSON of its turns."""

    __slots__ = ()


class Asked(LM):  # type: ignore[misc]  # the harness has no types
    """Answers requests of the harness. `prefix` and `draw` are set before each pass over the tasks."""

    def __init__(self, evaluation: Evaluation, most: int, beat: Callable[[int], None]) -> None:
        """`most`: tokens of the model's context. `beat` is called with the requests that a pass has asked."""
        super().__init__()
        self.evaluation = evaluation
        self.prefix = EvalPrefix.NONE
        self.draw = 0
        """Which of several answers to each request this is."""
        self.drawn = False
        """Several answers are drawn: those that would be greedy are not."""
        self.scorer: Scorer | None = None
        self.writer: Writer | None = None
        self.tokens = 0
        """Read and written so far."""
        self.unanswered = 0
        """Requests that did not fit the context."""
        self._most = most
        self._beat = beat
        self._feedback: dict[tuple[EvalPrefix, Any, Any], str | None] = {}

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation after its context, and whether it is the greedy one."""
        pairs = [self._pair(request, str(request.args[1])) for request in requests]
        return [
            found if pair else (_NEVER, False) for pair, found in zip(pairs, self._scored(pairs), strict=True)
        ]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihood of each text, the prefix before it, and before each part of one that is longer than
        the context. Without a start token or a prefix, a text's first token counts nothing."""
        parts: list[Pair | None] = []
        owners: list[int] = []
        for place, request in enumerate(requests):
            front = self.evaluation.front(self._feedback_of(request))
            ids = self.evaluation.ask("", str(request.args[0]), None)[1]
            room = max(1, self._most - len(front) - 1)
            for start in range(0, len(ids), room):
                before = ids[start - 1 : start] if start else []
                parts.append(([*front, *before], ids[start : start + room]))
                owners.append(place)
        totals = [0.0] * len(requests)
        for place, (nats, _) in zip(owners, self._scored(parts), strict=True):
            totals[place] += nats
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """What the model writes after each context, up to the first of its stops."""
        assert self.writer
        asked: list[tuple[int, list[int], Wanted]] = []
        for place, request in enumerate(requests):
            wanted = _wanted(request.args[1], drawn=self.drawn)
            # At least half of the context is left to the question.
            wanted = wanted._replace(most=min(wanted.most, max(1, self._most // 2)))
            pair = self._pair(request, "", wanted.most)
            if pair:
                asked.append((place, pair[0], wanted))
        found = [""] * len(requests)
        answers = self.writer.write([(ids, wanted) for _, ids, wanted in asked], self.draw, self._beat)
        for (place, ids, wanted), (text, written) in zip(asked, answers, strict=True):
            self.tokens += len(ids) + written
            found[place] = _cut(text, wanted.until)
        return found

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> Turns:
        """The conversation itself: it is rendered when it is asked, under the prefix of that pass."""
        return Turns(json.dumps(chat_history))

    @property
    def tokenizer_name(self) -> str:
        """What the harness would cache requests by; it caches none here."""
        return ""

    def _scored(self, pairs: Sequence[Pair | None]) -> list[tuple[float, bool]]:
        assert self.scorer
        asked = [pair or ([], []) for pair in pairs]
        self.tokens += sum(len(context) + len(said) for context, said in asked)
        return self.scorer.score(asked, self._beat)

    def _feedback_of(self, request: Instance) -> str | None:
        """The prefix of a request: all that is asked about an item has the same, also where it is random."""
        key = (self.prefix, request.task_name, request.doc_id)
        if key not in self._feedback:
            self._feedback[key] = self.evaluation.prefix_text(self.prefix)
        return self._feedback[key]

    def _pair(self, request: Instance, answer: str, room: int = 0) -> Pair | None:
        """Tokens of a request's context and of an answer, which leave `room` tokens. As the harness does, a
        text that is too long loses its beginning, but not its prefix; a conversation is not asked: None."""
        text, feedback = request.args[0], self._feedback_of(request)
        try:
            context, said = self._turns(text, answer, feedback) if isinstance(text, Turns) else (
                self.evaluation.ask(str(text), answer, feedback)
            )  # fmt: skip
        except Refused as error:
            raise StepError(
                Exit.CONFIG,
                f"harness: task {request.task_name}: the model's chat template refuses its turns: {error}",
                "leave the task out, or set fewshot to 0",
            ) from None
        over = len(context) + len(said) + room - self._most
        if over <= 0:
            return context, said
        front = [] if isinstance(text, Turns) else self.evaluation.front(feedback)
        if isinstance(text, Turns) or over >= len(context) - len(front):
            self.unanswered += 1
            return None
        return [*front, *context[len(front) + over :]], said

    def _turns(self, text: Turns, answer: str, feedback: str | None) -> Pair:
        turns = json.loads(text)
        begun = turns.pop()["content"] if turns[-1]["role"] == "assistant" else ""
        context, said = self.evaluation.ask(turns, begun + answer, feedback)
        if not begun:
            return context, said
        given = len(self.evaluation.ask(turns, begun, feedback)[1])
        return [*context, *said[:given]], said[given:]


def _wanted(told: dict[str, Any], *, drawn: bool) -> Wanted:
    """How a task wants an answer."""
    until = told.get("until") or []
    most = next(
        (told[name] for name in ("max_gen_toks", "max_new_tokens", "max_tokens") if told.get(name)),
        MOST_NEW_TOKENS,
    )
    temperature = float(told.get("temperature") or 0)
    if not told.get("do_sample", temperature > 0):
        temperature = 0.0
    elif not temperature:
        temperature = 1.0
    return Wanted(
        until=tuple([until] if isinstance(until, str) else filter(None, until)),
        most=int(most),
        temperature=temperature or float(drawn),
        top_p=float(told.get("top_p") or 1),
        top_k=int(told.get("top_k") or 0),
    )


def _cut(text: str, until: Sequence[str]) -> str:
    for stop in until:
        text = text.partition(stop)[0]
    return text
