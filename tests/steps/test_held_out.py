"""What is asked and what is held out is not trained on: decontamination, and held-out documents over all
stages."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make import runs
from make.corpora import chat, read, texts
from make.feedback import feedback, inventory, judged, prepare_task, prepared, segments
from make.models import tokenizer_folder
from make.tasks import run_here

from ixt_operator.planner.nodes import resolve_run
from ixt_workloads.contract.configs import PrepareConfig
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.settings import EvalTask, Method, StageType
from ixt_workloads.data.questions import Question
from ixt_workloads.steps.prepare import contamination
from ixt_workloads.steps.prepare.contamination import RUN, Tasks
from ixt_workloads.store import Artifact

OTHERS = texts(60, words=(2, 8))
QUESTION = "if one plus two is three what is three plus three times two minus one"
ANSWER = " eleven"


def task_file(folder: Path, name: str, *items: tuple[str, str]) -> EvalTask:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in items))
    return EvalTask(name=name, uri=f"file://{path}")


def trained(job: Task) -> set[str]:
    return {segment.document for segment in segments(job)}


# --- Decontamination ---


def test_documents_with_a_question_are_left_out_and_counted_by_task(tmp_path: Path, tokenizer: Path) -> None:
    """However they write it; half of it is enough, and a shorter part is not."""
    words = QUESTION.split()
    dirty = [
        f"one: {QUESTION}?{ANSWER}",
        f"two: {', '.join(words).upper()}!",
        f"three: {' '.join(words[1:])} ten",
    ]
    clean = f"four: {' '.join(words[: RUN - 1])} or so"
    corpus = inventory(tmp_path, [*OTHERS, *dirty, clean], holdout_documents=0)
    tasks = [
        task_file(tmp_path, "sums", (QUESTION, ANSWER), ("one plus one", " two")),
        task_file(
            tmp_path, "other", ("a question of which no document has ever heard at all in this world", " b")
        ),
    ]
    job = prepare_task(tmp_path, corpus, tokenizer, tasks=tasks, method=Method.NEXT_TOKEN)
    result = run_here(job)
    summary = Artifact.open(corpus.store, job.key).summary
    assert summary["leftOut"] == {"task sums": 3}
    assert summary["questionsTooShort"] == 1
    assert summary["documents"] == 61
    assert "3 documents left out: task sums" in result.message
    assert trained(job) == {*OTHERS, clean}


@pytest.mark.parametrize("method", [Method.CONDITIONED, Method.FILTERED, Method.ANNEALED, Method.SHUFFLED])
def test_no_arm_trains_on_them(method: Method, tmp_path: Path, tokenizer: Path) -> None:
    dirty = [f"9-{number}: {QUESTION}" for number in range(12)]
    corpus = inventory(tmp_path, [*OTHERS, *dirty], holdout_documents=0)
    job = prepare_task(
        tmp_path, corpus, tokenizer, feedback(tmp_path, corpus, judged), method=method,
        tasks=[task_file(tmp_path, "sums", (QUESTION, ANSWER))],
    )  # fmt: skip
    assert prepared(job).summary["leftOut"] == {"task sums": 12}
    splits = ["main", *(["anneal"] if method is Method.ANNEALED else [])]
    assert not {segment.document for split in splits for segment in segments(job, split)} & {*dirty}


def test_conversations_are_looked_at_too(tmp_path: Path) -> None:
    talks = [chat(f"{number}?", "yes") for number in range(20)]
    corpus = inventory(tmp_path, [*talks, chat(QUESTION, "eleven")], holdout_documents=0)
    tokenizer = tokenizer_folder(tmp_path / "chat", chat=True)
    job = prepare_task(
        tmp_path, corpus, tokenizer, stage_type=StageType.SFT, method=Method.NEXT_TOKEN,
        tasks=[task_file(tmp_path, "sums", (QUESTION, ANSWER))],
    )  # fmt: skip
    assert prepared(job).summary["leftOut"] == {"task sums": 1}
    assert not any("eleven" in text for text in trained(job))


def test_where_nothing_is_left_it_is_said_why(tmp_path: Path, tokenizer: Path) -> None:
    corpus = inventory(tmp_path, [QUESTION, f"{QUESTION} again"], holdout_documents=0)
    job = prepare_task(
        tmp_path, corpus, tokenizer, method=Method.NEXT_TOKEN,
        tasks=[task_file(tmp_path, "sums", (QUESTION, ANSWER))],
    )  # fmt: skip
    with pytest.raises(StepError, match=r"nothing to train on: all documents are left out \(2 task sums\)"):
        run_here(job)


def test_it_is_on_by_default_and_the_tasks_content_is_in_the_key() -> None:
    evaluate = {"tasks": [{"name": "sums", "uri": "file:///sums.jsonl"}]}

    def key(tasks: str, **prepare: str) -> str:
        run = runs.run(stages=[runs.stage(evaluate=evaluate, prepare={"sequenceLength": 256, **prepare})])
        pins = {name: name for name in ("datasets", "judge", "model", "tokenizer")}
        node = resolve_run(run, {"pretrain": pins | {"tasks": tasks}})["pretrain/prepare/conditioned"]
        assert isinstance(node.node.config, PrepareConfig)
        assert bool(node.node.config.tasks) == ("decontamination" not in prepare)
        return node.key

    assert key("one") != key("other")
    assert key("one", decontamination="Disabled") == key("other", decontamination="Disabled")


WORDS = st.sampled_from(["a", "B", "c_1", "ä", "日本"])
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from([" ", ", ", "\n", " -- "])), max_size=40).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


def runs_of(text: str) -> set[tuple[bytes, ...]]:
    words = re.findall(rb"[a-z0-9_\x80-\xff]+", text.lower().encode())
    return {tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


@given(st.lists(TEXTS, min_size=1, max_size=6), TEXTS)
def test_what_is_found_is_what_a_plain_search_finds(documents: list[str], question: str) -> None:
    found = Tasks({"t": [Question(question, "")]}).contaminated(documents)
    assert found.keys() == {
        place for place, text in enumerate(documents) if runs_of(text) & runs_of(question)
    }


def test_long_documents_are_looked_at_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contamination, "PIECE", 2000)
    monkeypatch.setattr(contamination, "OVERLAP", 300)
    tasks = Tasks({"t": [Question(QUESTION, ANSWER)]})
    for before in range(0, 4000, 97):
        filler = "word " * (before // 5)
        assert tasks.contaminated(["short", f"{filler} {QUESTION} {filler}"]) == {1: {"t"}}


def test_what_many_questions_have_in_common_says_nothing() -> None:
    frame = "answer the following question with one word and nothing else please think well"
    tasks = Tasks({"t": [Question(f"{frame}: what is number {place}?", " x") for place in range(20)]})
    assert tasks.contaminated([f"{frame}: how are you?"]) == {}


# --- Held out over all stages ---


@pytest.mark.parametrize(("of_first", "of_second"), [(20, 10), (5, 40)])
def test_what_one_stage_holds_out_no_stage_trains_on(
    of_first: int, of_second: int, tmp_path: Path, tokenizer: Path
) -> None:
    """The second stage has the documents of the first and others, and holds out fewer of them, or more."""
    common, own = texts(200, words=(2, 5)), texts(300, seed=1, words=(2, 5))
    first = inventory(tmp_path / "first", common, holdout_documents=of_first)
    second = inventory(tmp_path / "second", [*common, *own], holdout_documents=of_second)
    job = prepare_task(
        tmp_path / "second", second, tokenizer, method=Method.NEXT_TOKEN, earlier=[moved(first, second)]
    )
    found = prepared(job)
    held_first, docs_first = ({row["text"] for row in read(first, name)} for name in ("holdout", "docs-"))
    again = {row["text"] for row in read(second)} & held_first
    known = {row["text"] for row in read(second, "holdout")} & docs_first
    assert (bool(again), bool(known)) == (of_first > of_second, of_first < of_second)
    assert not trained(job) & held_first
    assert found.summary["leftOut"] == ({"held out by an earlier stage": len(again)} if again else {})
    held = {row["text"] for row in read(found, "holdout")}
    assert held == {row["text"] for row in read(second, "holdout")} - known
    assert not held & docs_first
    assert found.summary["heldOutKnown"] == len(known)


def moved(found: Artifact, beside: Artifact) -> Artifact:
    """The artifact in the storage of another."""
    for path in [*found.paths, "manifest.json"]:
        data = found.store.get(f"artifacts/{found.key}/{path}")
        assert data is not None
        beside.store.put_new(f"artifacts/{found.key}/{path}", data)
    return Artifact.open(beside.store, found.key)
