"""Has the judge read one document, again until its answer is valid, and makes a row of the feedback."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.metrics import DocumentResult
from ixt_workloads.contract.settings import Judge
from ixt_workloads.feedback.answers import Feedback, Rejected, messages, parse, schema
from ixt_workloads.feedback.fencing import USUAL, controls, disarmed
from ixt_workloads.steps.annotate.client import Declined, GivenUp, TooLong
from ixt_workloads.steps.annotate.rows import Document, Row
from ixt_workloads.steps.annotate.wire import MAX_TOKENS, Reply, ServedModel

Chat = Callable[[dict[str, Any]], Awaitable[Reply]]

RETRY_TEMPERATURE = 0.7
"""Temperature of retries after a greedy answer: asked greedily again, the judge would say the same."""

MARGIN = 32
"""Tokens that a prompt may have more than that of a trial question: the numbers of its fence, and what a text
gains where it meets the chat template."""

LEAST = 16
"""Characters, or tokens, of a document that are worth asking about at the least."""

FREE_QUESTION = "Just say hello, without JSON."
"""A trial question that no judge answers in JSON unless its engine makes it."""

MAKE_ROOM = "lower judge.sampling.maxTokens, shorten the rubric, or take a judge with a longer context"
"""What helps when prompt and answer fill the context."""

LONGEST_REASON = 300

CHARACTERS_PER_TOKEN = 64
"""No tokenizer packs more than this many characters into a token on average."""


@dataclass(frozen=True)
class Reader:
    """Reads documents with a judge that is known to work."""

    chat: Chat
    judge: Judge
    fingerprint: str
    tokenizer: Tokenizer | None = None
    room: int | None = None
    """Tokens of a document that fit; None: only the judge's own refusal tells."""
    controls: re.Pattern[str] = USUAL
    """Tokens that no document may have."""
    rejected: Callable[[str], None] = lambda reason: None
    """Told why an answer was rejected."""

    async def read(self, document: Document) -> Row:
        """Feedback on a document. Raises StepError when the judge cannot be asked at all."""
        row = Row(document.id, fingerprint=self.fingerprint)
        text, row.truncated = await self._fit(disarmed(document.text, self.controls))
        while row.tries <= self.judge.sampling.retries:
            row.tries += 1
            try:
                reply = await self.chat(request(self.judge, text, again=row.tries > 1))
            except TooLong:
                row.tries -= 1
                if len(text) < LEAST:
                    self._reject(row, "even its beginning does not fit", DocumentResult.REFUSED)
                    row.status = "too_long"
                    return row
                text, row.truncated = text[: len(text) * 3 // 4], True
                continue
            except Declined as error:
                # Said again, it would be refused again.
                self._reject(row, str(error), DocumentResult.REFUSED)
                return row
            except GivenUp as error:
                self._reject(row, str(error), DocumentResult.REFUSED)
                continue
            answer = feedback_of(reply, self.judge)
            if isinstance(answer, Feedback):
                return self._accept(row, reply, answer)
            self._reject(row, answer.reason, answer.result)
            wasted = reply.prompt_tokens - reply.cached_tokens + reply.completion_tokens
            row.wasted_tokens = min(MAX_TOKENS, row.wasted_tokens + wasted)
        return row

    def _reject(self, row: Row, reason: str, result: DocumentResult) -> None:
        row.result, row.reason = result, reason[:LONGEST_REASON]
        self.rejected(f"document {row.id}: {reason}")

    async def _fit(self, text: str) -> tuple[str, bool]:
        """The beginning of a text that fits, and whether something was cut off."""
        # A token has at least a byte.
        if self.room is None or self.tokenizer is None or len(text.encode()) <= self.room:
            return text, False
        head = text[: self.room * CHARACTERS_PER_TOKEN]
        encoding = await asyncio.to_thread(self.tokenizer.encode, head, add_special_tokens=False)
        if len(encoding) <= self.room:
            return head, len(head) < len(text)
        return head[: encoding.offsets[self.room - 1][1]], True

    def _accept(self, row: Row, reply: Reply, answer: Feedback) -> Row:
        row.status, row.score, row.reason = "ok", answer.score, ""
        row.axes, row.critique = json.dumps(answer.axes), answer.critique
        row.reasoning = reply.reasoning.strip()
        row.prompt_tokens, row.cached_tokens = reply.prompt_tokens, reply.cached_tokens
        row.reasoning_tokens = reasoning_tokens(reply, self.tokenizer)
        row.feedback_tokens = reply.completion_tokens - row.reasoning_tokens
        return row


def feedback_of(reply: Reply, judge: Judge) -> Feedback | Rejected:
    """What a reply says, or why it is no feedback."""
    if reply.refusal and not reply.content:
        return Rejected(f"the judge refuses: {reply.refusal}", DocumentResult.REFUSED)
    return parse(reply.content, reply.finish_reason, judge.rubric)


def request(judge: Judge, text: str, *, again: bool = False) -> dict[str, Any]:
    """A chat completion that asks for feedback on a text. Never with a seed: vLLM's CPU engine dies of it."""
    sampling = judge.sampling
    temperature = float(sampling.temperature)
    optional = {
        "top_k": sampling.top_k,
        "min_p": None if sampling.min_p is None else float(sampling.min_p),
        "presence_penalty": None if sampling.presence_penalty is None else float(sampling.presence_penalty),
        "thinking_token_budget": sampling.thinking_tokens,
        "chat_template_kwargs": {each.name: _value(each.value) for each in judge.chat_template_kwargs}
        or None,
    }
    form = {"name": "feedback", "schema": schema(judge.rubric), "strict": True}
    return {
        "messages": messages(judge.rubric, text, judge.system_prompt),
        "response_format": {"type": "json_schema", "json_schema": form},
        "temperature": RETRY_TEMPERATURE if again and temperature == 0 else temperature,
        "top_p": float(sampling.top_p),
        "max_completion_tokens": sampling.max_tokens,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _value(text: str) -> Any:
    """A value that a template is told: JSON, or what is none as a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def reasoning_tokens(reply: Reply, tokenizer: Tokenizer | None) -> int:
    """Tokens before the answer, with the marks around the reasoning.

    As the server counts them, if it does. Else all tokens but those of the answer and its end, or without a
    tokenizer the reasoning's share by characters. The sum of reasoning and feedback is exact in any case.
    """
    if reply.reasoning_tokens or not reply.reasoning:
        return min(reply.reasoning_tokens, reply.completion_tokens)
    content = reply.content or ""
    if tokenizer is None:
        return reply.completion_tokens * len(reply.reasoning) // (len(reply.reasoning) + len(content))
    answer = len(tokenizer.encode(content, add_special_tokens=False))
    return max(reply.completion_tokens - answer - 1, 0)


async def prove(
    chat: Chat, judge: Judge, model: ServedModel, fingerprint: str, tokenizer: Tokenizer | None
) -> Reader:
    """Ask a few questions whose answers show that grammar and reasoning work, and measure the prompt.

    Raises StepError when no answer at all is valid, the engine takes no notice of response_format, no answer
    has the reasoning that judge.reasoning_parser promises, or instructions and answer fill the context.
    """
    texts = (judge.rubric.ideal_critique, judge.rubric.worst_critique)
    bodies = [request(judge, text, again=again) for again in (False, True) for text in texts]
    free_body = {**bodies[0], "messages": [{"role": "user", "content": FREE_QUESTION}]}
    try:
        *replies, free = await asyncio.gather(*map(chat, [*bodies, free_body]))
    except TooLong as error:
        raise StepError(
            Exit.CONFIG,
            f"the rubric's instructions and sampling.maxTokens = {judge.sampling.max_tokens} fill the "
            f"judge's context: {error}",
            MAKE_ROOM,
        ) from None
    except Declined as error:
        raise StepError(
            Exit.CONFIG,
            str(error),
            "does it know chat completions, response_format json_schema and the model's template?",
        ) from None
    except GivenUp as error:
        raise StepError(
            Exit.UNAVAILABLE, f"the judge fails on every question: {error}", "see its log"
        ) from None
    answers = [feedback_of(reply, judge) for reply in replies]
    rejected = [answer for answer in answers if isinstance(answer, Rejected)]
    if len(rejected) == len(answers):
        reply = replies[0]
        raise StepError(
            Exit.DATA,
            f"none of {len(answers)} trial answers of the judge is valid: {rejected[0].reason}. It said "
            f"{(reply.content or '')[:200]!r} after reasoning {reply.reasoning[:200]!r}",
            "check the judge's chat template, judge.reasoningParser, judge.sampling.maxTokens and the rubric",
        )
    if judge.reasoning_parser and not any(reply.reasoning.strip() for reply in (*replies, free)):
        raise StepError(
            Exit.CONFIG,
            f"judge.reasoningParser is {judge.reasoning_parser}, but none of {len(bodies) + 1} trial answers "
            f"has reasoning; one is {(replies[0].content or '')[:200]!r}",
            "name the parser of this judge's kind of reasoning and check its chat template; for a judge that "
            "does not reason leave judge.reasoningParser out",
        )
    # An answer that is cut off or empty proves nothing: the grammar begins where reasoning has ended.
    if free.finish_reason == "stop" and free.content and not free.content.lstrip().startswith("{"):
        raise StepError(
            Exit.CONFIG,
            "the judge's engine takes no notice of response_format: asked for a greeting under the rubric's "
            f"JSON schema it said {free.content[:200]!r}",
            "take an engine with structured outputs (response_format of type json_schema), such as vLLM with "
            "a structured-outputs backend, and check that no proxy before it drops the field",
        )
    room = None
    if tokenizer is not None and model.context is not None:
        template = replies[0].prompt_tokens - len(tokenizer.encode(texts[0], add_special_tokens=False))
        room = model.context - judge.sampling.max_tokens - template - MARGIN
        if room < LEAST:
            raise StepError(
                Exit.CONFIG,
                f"the judge's context of {model.context} tokens leaves {max(room, 0)} for a document: the "
                f"prompt takes {template}, judge.sampling.maxTokens {judge.sampling.max_tokens}",
                MAKE_ROOM,
            )
    return Reader(chat, judge, fingerprint, tokenizer, room, controls(tokenizer))


def judge_tokenizer(folder: Path) -> Tokenizer | None:
    """The judge's tokenizer, where its folder holds one for the tokenizers library."""
    path = folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.is_file() else None
