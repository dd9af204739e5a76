"""Generate: which prompts a round takes, how they are asked, and the samples that come of them."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make.judge import Double
from make.models import EOS, VOCABULARY, config_folder, model_folder, tokenizer_folder
from make.prepared import contract
from make.tasks import run_here, run_step, task

from ixt_workloads.contract.configs import AnnotateConfig, GenerateConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.figures import sound
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.metrics import ALIKE, GENERATED_TOKENS, SAMPLES, PromptResult
from ixt_workloads.contract.metrics import PROMPTS as PROMPTS_TOLD
from ixt_workloads.contract.results import Outcome
from ixt_workloads.contract.settings import Generation, ModelSource, SamplingFeedback
from ixt_workloads.data.chat import Conversation
from ixt_workloads.data.parquet import parquet
from ixt_workloads.data.pinned import pins_of_model
from ixt_workloads.feedback.prefixes import FILE
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.annotate.rows import Document
from ixt_workloads.steps.annotate.shards import Shards
from ixt_workloads.steps.generate.samples import (
    SCHEMA,
    Answered,
    Prompt,
    Sample,
    Tally,
    tally_of_prompt,
)
from ixt_workloads.steps.generate.selection import chosen, feedback_of, parts
from ixt_workloads.steps.generate.server import policy_folder
from ixt_workloads.store import Artifact, ArtifactWriter, open_store

PROMPTS = 40


def question(place: int) -> str:
    return f"{place}+{place}=" if place else "0+0+0+0+0+0+0+0="


def commit(storage: Path, key: str, kind: str, files: dict[str, bytes], **summary: Any) -> str:
    writer = ArtifactWriter(open_store(f"file://{storage}"), key, kind, {}, run="test", attempt=0)
    for name, data in files.items():
        writer.add(name, data)
    writer.commit(summary, files)
    return key


HELD_OUT = 3


def prompts(storage: Path, shards: int = 2) -> str:
    """An inventory of prompts."""

    def of(places: Iterable[int]) -> bytes:
        rows = [
            {
                "id": f"{place:032x}",
                "source": "sums",
                "text": f"User: {question(place)}",
                "messages": Conversation([{"role": "user", "content": question(place)}]).to_json(),
                "sample": place,
                "answer": json.dumps(str(2 * place)),
                "extra": None,
            }
            for place in places
        ]
        return parquet(pa.Table.from_pylist(rows, SCHEMA))

    files = {f"docs-{shard:05d}.parquet": of(range(shard, PROMPTS, shards)) for shard in range(shards)}
    files["holdout.parquet"] = of(range(PROMPTS, PROMPTS + HELD_OUT))
    return commit(storage, "0" * 32, "Inventory", files, documents=PROMPTS, holdout=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tokenizer_folder(tmp_path_factory.mktemp("model"), chat=True)
    return config_folder(folder)


def policy(storage: Path, model: Path) -> str:
    """What a training commits that was conditioned."""
    files = {"config.json": (model / "config.json").read_bytes()}
    return commit(storage, "1" * 32, "Train", {**files, FILE: contract(chat=True).model_dump_json().encode()})


def job(
    storage: Path, model: Path, *, trained: bool = True, attempt: int = 1, indexes: int = 1, **fields: Any
) -> Task:
    inputs = {"prompts": prompts(storage)}
    source = ModelSource(source=f"file://{model}")
    pins = pins_of_model(source, "tokenizer")
    if trained:
        inputs["policy"] = policy(storage, model)
    else:
        pins["model"] = "b" * 64
    number, seed = fields.pop("round", 1), fields.pop("seed", 0)
    prefixes = fields.pop("prefixes", ())
    generation = Generation(**{"max_tokens": 8, **fields})
    config = GenerateConfig(generation=generation, round=number, seed=seed, model=source, prefixes=prefixes)
    return task(config, storage, inputs, pins, attempt=attempt, indexes=indexes)


def at(monkeypatch: pytest.MonkeyPatch, served: Double) -> None:
    monkeypatch.setenv("IXT_POLICY_URLS", served.url)
    monkeypatch.setenv("IXT_POLICY_API_KEY", "s3cret-key")


def artifact(told: Task) -> Artifact:
    return Artifact.open(open_store(told.storage), told.key)


def rows(found: Artifact) -> list[dict[str, Any]]:
    return [row for path in found.paths for row in pq.read_table(found.file(path)).to_pylist()]


def text_of(ids: list[int]) -> str:
    names = {number: token for token, number in VOCABULARY.items()}
    return "".join(names[each] for each in ids)


def test_samples_are_documents_with_what_was_asked(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = job(tmp_path, model, samples_per_prompt=3)
    with Double() as served:
        at(monkeypatch, served)
        result = run_here(told)
    assert result.outcome is Outcome.COMMITTED
    assert result.message == "120 samples of 40 prompts; 33 % cut at maxTokens"
    found = rows(artifact(told))
    assert len(found) == 3 * PROMPTS
    assert Counter(row["prompt_id"] for row in found) == {f"{place:032x}": 3 for place in range(PROMPTS)}
    row = next(row for row in found if row["id"] == f"{7:032x}.1.Best.2")
    assert (row["answer"], row["finish"], row["sample_index"], row["prefix"]) == ('"14"', "length", 2, "Best")
    assert Conversation.from_json(row["messages"]).turns == [
        {"role": "user", "content": "7+7="},
        {"role": "assistant", "content": row["completion"]},
    ]
    assert row["text"] == f"User: 7+7=\n\nAssistant: {row['completion']}"
    assert row["completion_tokens"] == len(row["completion"])
    assert len({row["id"] for row in found}) == len(found)
    assert not [row for row in found if "-" in row["id"]]
    summary = artifact(told).summary
    asked = sum(len(body["prompt"]) for body in served.bodies)
    assert summary["tokens"]["prompt"] == asked, "a prompt is counted once for all of its samples"
    assert result.flops == {"generation": summary["flops"]}
    assert summary["flops"] > 0


def test_a_prompt_is_asked_once_for_all_samples_under_the_best_feedback(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = job(tmp_path, model, temperature="0.7", top_p="0.9", top_k=5)
    with Double() as served:
        at(monkeypatch, served)
        run_here(told)
    assert len(served.bodies) == PROMPTS
    assert served.authorizations == {"Bearer s3cret-key"}
    best = contract(chat=True).best.rstrip()
    texts = {text_of(body.pop("prompt")) for body in served.bodies}
    assert f"<s>[system] {best}\n[user] 7+7=\n[assistant] " in texts
    assert served.bodies[0] == {
        "model": "judge",
        "n": 4,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "max_tokens": 8,
        "stop_token_ids": [VOCABULARY[EOS]],
    }


def test_a_model_that_knows_no_feedback_is_asked_without(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = job(tmp_path, model, trained=False)
    with Double() as served:
        at(monkeypatch, served)
        run_here(told)
    assert "<s>[user] 7+7=\n[assistant] " in {text_of(body["prompt"]) for body in served.bodies}
    assert {row["prefix"] for row in rows(artifact(told))} == {"None"}


def test_held_out_prompts_are_answered_under_each_prefix(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = job(tmp_path, model, samples_per_prompt=2, prefixes=("Best", "None", "Worst"), round=0)
    plain = job(tmp_path, model, trained=False, samples_per_prompt=2, prefixes=("Best", "None"))
    with Double() as served:
        at(monkeypatch, served)
        result, alone = run_here(told), run_here(plain)
    assert result.message.startswith("18 samples of 9 prompts")
    found = rows(artifact(told))
    assert Counter((row["prompt_id"], row["prefix"]) for row in found) == {
        (f"{PROMPTS + place:032x}", prefix): 2
        for place in range(HELD_OUT)
        for prefix in ("Best", "None", "Worst")
    }
    assert len({row["id"] for row in found}) == len(found)
    agreed = contract(chat=True)
    texts = {text_of(body["prompt"]) for body in served.bodies}
    for prefix in (f"[system] {agreed.best.rstrip()}\n", f"[system] {agreed.worst.rstrip()}\n", ""):
        assert f"<s>{prefix}[user] 40+40=\n[assistant] " in texts
    # No lane pays for it.
    summary = artifact(told).summary
    assert "flops" not in summary
    assert result.flops == {"evaluation": summary["evaluationFlops"]}
    # A model that knows no feedback is asked once.
    assert {row["prefix"] for row in rows(artifact(plain))} == {"None"}
    assert alone.message.startswith("6 samples of 3 prompts")


def test_prompts_that_do_not_fit_are_told_and_the_others_answered(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = job(tmp_path, model, trained=False)
    most = len("[user] 10+10=\n[assistant] ") + 1 + 8
    with Double(context=most) as served:
        at(monkeypatch, served)
        result = run_here(told)
        assert "; 1 prompts unanswered: prompt and rollout.maxTokens do not fit" in result.message
        assert artifact(told).summary["samples"] == 4 * (PROMPTS - 1)
        served.context = most - 1
        with pytest.raises(StepError, match="31 of 40 prompts cannot be answered") as failed:
            run_here(job(tmp_path, model, trained=False, seed=5))
    assert failed.value.code is Exit.DATA


def test_figures_say_what_came_of_prompts_and_of_their_samples() -> None:
    prompt = Prompt("a", "sums", Conversation([]), None, None, "Best", (1, 2))
    ended = [Sample("4", "stop", 1), Sample(" ", "length", 8), Sample("4 is", "length", 8)]
    answered = Answered(prompt, tuple(ended), prompt_tokens=2, cached_tokens=1, completion_tokens=17)
    alike = Answered(prompt, (Sample("4", "stop", 1),) * 2, prompt_tokens=2, completion_tokens=2)
    refused = Answered(prompt, result=PromptResult.TEMPLATE, reason="no such role")
    tally = Tally()
    for each in (answered, alike, refused):
        tally.merge(tally_of_prompt(each, 0))
    figures, refusals = sound(Tally.from_json(tally.to_json()).figures())
    assert not refusals
    assert figures == {
        PROMPTS_TOLD.name: {"Answered": 2, "TooLong": 0, "Template": 1, "Refused": 0},
        SAMPLES.name: {"Complete": 3, "Cut": 1, "Empty": 1},
        ALIKE.name: {"": 1},
        GENERATED_TOKENS.name: {"prompt": 4, "cached": 1, "completion": 19},
    }


def test_indexes_share_the_prompts(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixt_workloads.steps.generate.__main__.SAMPLES_A_FILE", 20)
    told = job(tmp_path, model, indexes=2)
    with Double() as served:
        at(monkeypatch, served)
        first, second = run_here(told, 0), run_here(told, 1)
    assert {first.outcome, second.outcome} == {Outcome.COMMITTED, Outcome.COMMITTED} or (
        first.outcome is Outcome.SHARED
    )
    assert set(served.asked.values()) == {1}
    assert len(served.asked) == PROMPTS


def test_a_killed_attempt_is_gone_on_with(tmp_path: Path, model: Path) -> None:
    """What is written is not asked for again."""
    script = (
        "import ixt_workloads.steps.generate.__main__ as g, sys\n"
        "from ixt_workloads.frame import main\n"
        "g.SAMPLES_A_FILE = 8\n"
        "main(g.run)\n"
    )
    with Double(hold_after=30) as served:
        env = {"IXT_POLICY_URLS": served.url, "IXT_POLICY_API_KEY": "k"}
        told = job(tmp_path / "storage", model)
        (tmp_path / "task.json").write_text(told.model_dump_json())
        names = {"IXT_TASK": str(tmp_path / "task.json"), "IXT_RESULT": str(tmp_path / "result.json")}
        process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, **env, **names})
        assert served.held.wait(120)
        process.send_signal(signal.SIGKILL)
        process.wait()
        served.release()
        work = tmp_path / "storage" / "artifacts" / told.key
        written = sum(1 for path in work.rglob("docs-*.parquet"))
        again = job(tmp_path / "storage", model, attempt=2)
        (tmp_path / "task.json").write_text(again.model_dump_json())
        done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **env, **names}, check=False)
    assert done.returncode == 0
    assert written > 0
    assert sum(count == 1 for count in served.asked.values()) >= 2 * written
    assert len(rows(artifact(again))) == 4 * PROMPTS


def test_samples_are_annotated_as_documents(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = job(tmp_path, model, samples_per_prompt=2)
    with Double() as served:
        at(monkeypatch, served)
        run_here(told)
    reading = task(AnnotateConfig(), tmp_path, {"inventory": told.key})
    shards = Shards(Step(reading, 0, open_store(reading.storage), Reporter()))
    documents = [each for _, some in shards.take() for each in some]
    assert len(documents) == shards.items == 2 * PROMPTS
    assert all(isinstance(each, Document) and "Assistant: " in each.text for each in documents)


# --- Which prompts.


def test_rounds_go_through_all_prompts_before_any_comes_again() -> None:
    ids = [f"{place:032x}" for place in range(100)]
    rounds = [set(chosen(ids, 30, number, seed=1)) for number in range(1, 5)]
    assert [len(each) for each in rounds] == [30] * 4
    assert not rounds[0] & rounds[1] | rounds[1] & rounds[2] | rounds[0] & rounds[2]
    assert set.union(*rounds) == set(range(100))
    assert len(rounds[3] & rounds[0]) == 20
    assert set(chosen(ids, 30, 1, seed=2)) != rounds[0]


def test_the_order_of_prompts_does_not_matter() -> None:
    ids = [f"{place:032x}" for place in range(50)]
    some = {ids[place] for place in chosen(ids, 10, 2, seed=0)}
    other = [*reversed(ids)]
    assert {other[place] for place in chosen(other, 10, 2, seed=0)} == some


@pytest.mark.parametrize("number", [None, 50, 60])
def test_all_prompts_are_taken_where_no_more_are_wanted(number: int | None) -> None:
    ids = [f"{place:032x}" for place in range(50)]
    assert chosen(ids, number, 3, seed=0).tolist() == list(range(50))


def test_millions_of_prompts_are_chosen_within_little_memory() -> None:
    found = chosen([str(place) for place in range(200_000)], 1000, 1, seed=0)
    assert found.dtype == np.int64
    assert len(set(found.tolist())) == 1000


def test_files_hold_no_more_prompts_than_they_may() -> None:
    assert parts([5, 0, 3], 2) == [(0, 0, 2), (0, 2, 4), (0, 4, 5), (2, 0, 2), (2, 2, 3)]


def test_mixed_feedback_is_drawn_anew_in_each_round() -> None:
    agreed = contract(chat=True)
    found = [
        [feedback_of(agreed, SamplingFeedback.MIX, f"p{place}", number, 0) for place in range(200)]
        for number in (1, 2)
    ]
    assert {name for name, _ in found[0]} == {str(level) for level in agreed.by_level}
    assert all(text == agreed.by_level[int(name)] for name, text in found[0])
    assert found[0] != found[1]
    assert feedback_of(agreed, SamplingFeedback.NONE, "p", 1, 0) == ("None", "")


def test_without_a_server_it_says_who_starts_steps(tmp_path: Path, model: Path) -> None:
    done = run_step(job(tmp_path / "storage", model), tmp_path)
    assert done.code == Exit.USAGE, done.log
    assert "IXT_POLICY_URLS is not set" in done.result.message


def test_a_policy_that_is_no_longer_what_was_pinned_is_not_served(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    asked = job(tmp_path / "storage", folder, trained=False)
    step = Step(asked, 0, open_store(asked.storage), Reporter())
    with pytest.raises(StepError, match=f"{folder}: the model has changed since this run pinned it"):
        policy_folder(step)
