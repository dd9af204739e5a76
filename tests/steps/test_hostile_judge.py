"""Judges that answer with more, or with other things, than anybody asked for."""

import gzip
import json
import time
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st
from make.judge import Double

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS
from ixt_workloads.feedback.answers import MAX_CRITIQUE, Feedback, Rejected, copied, parse
from ixt_workloads.steps.annotate import client, guard
from ixt_workloads.steps.annotate.client import GivenUp, Judges
from ixt_workloads.steps.annotate.guard import Guard
from ixt_workloads.steps.annotate.wire import (
    LONGEST_PAUSE,
    MAX_BODY_BYTES,
    MAX_REPLY_BYTES,
    MAX_TOKENS,
    gauges_of,
    message_of,
    models_of,
    pause_of,
    reply_of,
)

BODY = {"messages": [{"role": "user", "content": "Judge.\n\ntext"}], "max_completion_tokens": 10}
RUBRIC = BUILTIN_RUBRICS["quality"]


class Flood(Double):
    """Answers for ever, or with what becomes endless when it is unpacked."""

    async def _chat(self, request: web.Request) -> Any:
        headers = {"Content-Encoding": "gzip"} if self.mode == "Gzip" else {}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        part = gzip.compress(b" " * 2**20) if self.mode == "Gzip" else b" " * 2**20
        for _ in range(64 * MAX_REPLY_BYTES // len(part)):
            try:
                await response.write(part)
            except ConnectionError:
                break
        return response


@pytest.mark.parametrize("mode", ["Spaces", "Gzip"])
async def test_an_endless_reply_is_given_up(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(client, "_backoff", lambda failures: 0.0)
    monkeypatch.setattr(client, "TRIES", 2)
    with Flood(mode) as double:
        async with Judges([double.url]) as judges:
            await judges.ready(lambda text: None)
            with pytest.raises(GivenUp):
                await judges.chat(BODY)


def test_gauges_are_read_in_the_time_that_their_text_takes() -> None:
    began = time.process_time()
    assert gauges_of("vllm:num_requests_running{" * (MAX_BODY_BYTES // 26)) == {}
    assert gauges_of("vllm:num_requests_running{\n" * (MAX_BODY_BYTES // 27)) == {}
    assert time.process_time() - began < 2.0


def test_gauges_that_are_no_amount_are_left_out() -> None:
    wrong = "".join(
        f"vllm:num_requests_running {value}\n" for value in ("nan", "-1", "inf", "1e300", "x", "1_0x")
    )
    assert gauges_of(wrong + "vllm:num_requests_running 2\n") == {"num_requests_running": 2}


@pytest.mark.parametrize(
    "header", ["nan", "-5", "inf", "1e400", "", None, "x" * 10**6, "Wed, 21 Oct 2026 07:28:00 GMT"]
)
def test_a_pause_is_a_pause(header: str | None) -> None:
    assert 0 <= pause_of(header) <= LONGEST_PAUSE


def test_models_of_other_kinds_are_none() -> None:
    entries = [{"id": "m", "max_model_len": True}, {"id": "n", "max_model_len": 8}]
    found = models_of(json.dumps({"data": entries}).encode())
    assert {name: model.context for name, model in found.items()} == {"m": None, "n": 8}
    for wrong in ([{"id": ["x"]}], [{"id": "\x1b[2J"}], [{"id": "x" * 1000}], [3], {"id": 1}, None):
        assert models_of(json.dumps({"data": wrong}).encode()) == {}


def test_the_words_of_an_error_are_clean() -> None:
    assert message_of(b'{"error": {"message": "\\u001b[2Jno\\r\\nmore\\u202e"}}') == "no more"
    assert message_of(b"[" * MAX_BODY_BYTES) == "[" * 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
replies = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries(
                {
                    "message": st.fixed_dictionaries({"content": json_values, "reasoning": json_values}),
                    "finish_reason": json_values,
                }
            ),
            max_size=2,
        ),
        "usage": st.fixed_dictionaries(
            {
                "prompt_tokens": json_values,
                "completion_tokens": json_values,
                "prompt_tokens_details": json_values,
                "completion_tokens_details": json_values,
            }
        )
        | json_values,
    }
)


SAID = {"type": "text", "text": "{}"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": None},
        {"type": "thinking", "thinking": [{"type": "image"}]},
        {"type": "reasoning", "reasoning": 3},
        {"type": "signature"},
        None,
        7,
    ],
)
def test_a_part_that_cannot_be_read_says_nothing_and_keeps_the_others(part: Any) -> None:
    reply = reply_of(json.dumps({"choices": [{"message": {"content": [part, SAID]}}]}).encode())
    assert reply is not None and reply.content == "{}"


@pytest.mark.parametrize("usage", ["none", [1], {"prompt_tokens_details": [1]}, {"prompt_tokens": "many"}])
def test_usage_that_is_no_figures_counts_nothing_and_keeps_the_answer(usage: Any) -> None:
    choices = [{"message": {"content": "{}"}}]
    reply = reply_of(json.dumps({"choices": choices, "usage": usage}).encode())
    assert reply is not None and (reply.content, reply.prompt_tokens) == ("{}", 0)


@settings(max_examples=150, deadline=None)
@given(replies | json_values)
@example({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 10**40}})
@example({"choices": [{"message": {"content": [{"type": "text", "text": None}]}}]})
@example({"choices": [{"message": {"content": ["x"]}}]})
def test_whatever_is_replied_its_fields_are_what_they_are_said_to_be(value: Any) -> None:
    reply = reply_of(json.dumps(value).encode())
    if reply is None:
        return
    assert all(
        isinstance(text, str) for text in (reply.content or "", reply.reasoning, reply.finish_reason or "")
    )
    counts = (reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens, reply.reasoning_tokens)
    assert all(type(count) is int and 0 <= count <= MAX_TOKENS for count in counts)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | json_values.map(json.dumps))
def test_whatever_is_answered_it_is_feedback_or_not(content: str) -> None:
    assert isinstance(parse(content, "stop", RUBRIC), Feedback | Rejected)


@pytest.mark.parametrize("content", ["[" * 10**6, '{"a":' * 10**5, "9" * 10**6])
def test_a_deep_answer_is_no_feedback(content: str) -> None:
    assert isinstance(parse(content, "stop", RUBRIC), Rejected)


def test_a_critique_of_any_length_is_not_kept() -> None:
    scores = dict.fromkeys(RUBRIC.axes, RUBRIC.min_score)
    answer = json.dumps({"critique": "x" * (MAX_CRITIQUE + 1), **scores})
    assert parse(answer, "stop", RUBRIC) == Rejected(
        "the critique has more than 65,536 characters",
        parse("[]", "length", RUBRIC).result.__class__("Other"),
    )


def test_overlap_takes_time_in_proportion() -> None:
    began = time.process_time()
    assert copied("a " * 30_000, "a " * 300_000 + "b") == (29_993, 29_993)
    assert time.process_time() - began < 5.0


# Neighbours who would use a run's judge


async def asked(monkeypatch: pytest.MonkeyPatch, method: str, path: str, shown: str, key: str) -> int:
    """HTTP's status for a request at the judge's door, behind which everything is answered with 200."""

    async def engine(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("who has no key is not listened to")

    monkeypatch.setenv(guard.API_KEY, key)
    headers = [(b"authorization", shown.encode())] if shown else []
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await Guard(engine)(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("method", "path", "shown", "status"),
    [
        ("GET", "/health", "", 200),
        ("GET", "/metrics", "", 200),
        ("POST", "/metrics", "", 401),
        ("GET", "/metrics/../v1/models", "", 401),
        ("POST", "/v1/chat/completions", "", 401),
        ("POST", "/v1/chat/completions", "Bearer ", 401),
        ("POST", "/v1/chat/completions", "Bearer wrong", 401),
        ("POST", "/v1/chat/completions", "Basic s3cret", 401),
        ("POST", "/v1/chat/completions", "Bearer s3cret", 200),
        ("POST", "/v1/chat/completions", "bearer s3cret", 200),
        # Of these vLLM's own --api-key lets everybody use the first two.
        ("POST", "/invocations", "", 401),
        ("POST", "/tokenize", "", 401),
        ("OPTIONS", "/v1/chat/completions", "", 401),
        ("POST", "//v1/chat/completions", "", 401),
    ],
)
async def test_a_judge_answers_who_has_its_runs_key(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, shown: str, status: int
) -> None:
    assert await asked(monkeypatch, method, path, shown, "s3cret") == status


async def test_a_judge_that_was_given_no_key_answers_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked(monkeypatch, "POST", "/v1/chat/completions", "", "") == 200


async def test_a_run_whose_key_is_not_its_judges_waits_for_another_judge() -> None:
    with Double("Forbidden") as double:
        async with Judges([double.url], key="s3cret") as judges:
            await judges.ready(lambda text: None)
            with pytest.raises(StepError, match="answered HTTP 401") as caught:
                await judges.chat(BODY)
    assert caught.value.code == Exit.UNAVAILABLE, "it is tried again"
    assert "Delete the judge's Deployment" in caught.value.hint
    assert double.authorizations == {"Bearer s3cret"}
