"""Prepare as a process among others: shared work, interruptions, and what it refuses to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from make.corpora import texts
from make.feedback import feedback, inventory, judged, prepare_task, prepared, score_of
from make.processes import until
from make.tasks import run_here, run_step

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.metrics import PREPARED_DOCUMENTS, PREPARED_TOKENS
from ixt_workloads.contract.results import Outcome
from ixt_workloads.contract.settings import Method, ModelSource
from ixt_workloads.contract.versions import write_task
from ixt_workloads.store import Artifact, ArtifactWriter, open_store
from ixt_workloads.store.errors import ContentMismatch


@pytest.fixture
def many(tmp_path: Path) -> Artifact:
    """An inventory of eight blocks."""
    return inventory(tmp_path, texts(4000, words=(3, 12)), holdout_documents=10)


def content(job: Task) -> str:
    return Artifact.open(open_store(job.storage), job.key).manifest.content_hash


def undisturbed(folder: Path, job: Task) -> str:
    """What the same task gives where nothing happens to it."""
    other = job.model_copy(update={"key": "0" * 32, "indexes": 1})
    return prepared(other).manifest.content_hash


def start(job: Task, folder: Path, index: int) -> "subprocess.Popen[str]":
    """A worker's process that the test goes on beside."""
    folder.mkdir(exist_ok=True)
    (folder / "task.json").write_text(write_task(job))
    names = {"IXT_TASK": "task.json", "IXT_RESULT": f"result-{index}.json"}
    return subprocess.Popen(
        [sys.executable, "-m", "ixt_workloads.steps.prepare"],
        env={**os.environ, "IXT_INDEX": str(index), **{name: str(folder / f) for name, f in names.items()}},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_same_task_gives_the_same_bytes(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    job = prepare_task(tmp_path, corpus, tokenizer, feedback(tmp_path, corpus, judged))
    done = run_step(job, tmp_path / "run")
    assert (done.code, done.result.outcome) == (0, Outcome.COMMITTED), done.log
    assert len(done.log.splitlines()) == 1
    summary, figures = prepared(job).summary, done.result.figures
    tokens = figures[PREPARED_TOKENS.name]
    assert tokens["Document"] + tokens["Prefix"] == summary["tokens"]
    assert tokens["Prefix"] == summary["feedbackTokens"]
    levels = figures[PREPARED_DOCUMENTS.name]
    assert {name: levels[name] for name in levels if name} == summary["levels"]
    assert sum(levels.values()) == summary["documents"]
    assert content(job) == undisturbed(tmp_path, job)


def test_workers_share_the_blocks(many: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    job = prepare_task(tmp_path, many, tokenizer, feedback(tmp_path, many, judged, 0, 30), indexes=2)
    workers = [start(job, tmp_path / "run", index) for index in (0, 1)]
    logs = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], logs
    assert content(job) == undisturbed(tmp_path, job)
    taken = [path.read_text() for path in (tmp_path / "storage/work" / job.key).rglob("0000*")]
    assert len(taken) == 8


def test_a_worker_that_finds_the_last_blocks_taken_leaves_them_to_the_others(
    many: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    job = prepare_task(tmp_path, many, tokenizer, method=Method.NEXT_TOKEN, indexes=2)
    store = open_store(job.storage)
    for block in ("00004", "00006"):
        store.put_new(f"work/{job.key}/uid-1/0/taken/{block}", b"1")
    first = run_here(job, 0)
    assert (first.outcome, first.message) == (
        Outcome.SHARED, "this worker is done; 2 of 8 files are with others",
    )  # fmt: skip
    assert run_here(job, 1).outcome is Outcome.COMMITTED
    assert content(job) == undisturbed(tmp_path, job)


@pytest.mark.parametrize("after", [0, 1, 5, 8, 9])
def test_stopped_at_any_file_the_next_attempt_completes_the_same(
    many: Artifact, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    job = prepare_task(tmp_path, many, tokenizer, method=Method.NEXT_TOKEN)
    add, added = ArtifactWriter.add, []

    def stopping(self: ArtifactWriter, path: str, data: bytes | Path) -> bool:
        if len(added) == after:
            raise KeyboardInterrupt
        added.append(path)
        return add(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(ArtifactWriter, "add", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_here(job)
    assert not list((tmp_path / "storage/artifacts" / job.key).glob("manifest.json"))
    again = job.model_copy(update={"attempt": 1})
    assert run_here(again).outcome is Outcome.COMMITTED
    assert content(job) == undisturbed(tmp_path, job)


def test_killed_at_work_it_is_gone_on_with(many: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    job = prepare_task(tmp_path, many, tokenizer, feedback(tmp_path, many, judged), indexes=2)
    process = start(job, tmp_path / "run", 0)
    written = tmp_path / "storage/artifacts" / job.key
    until(lambda: bool(list(written.glob("main-*"))) or process.poll() is not None)
    process.kill()
    process.communicate()
    again = run_step(job.model_copy(update={"attempt": 1}), tmp_path / "run", index=1)
    assert again.code == 0 and again.result.outcome in (Outcome.COMMITTED, Outcome.CACHED), again.log
    assert content(job) == undisturbed(tmp_path, job)


# --- Refused ---


def refused(job: Task) -> StepError:
    with pytest.raises(StepError) as caught:
        run_here(job)
    assert caught.value.hint
    assert not list(Path(job.storage.removeprefix("file://"), "artifacts", job.key).glob("manifest.json"))
    return caught.value


@pytest.mark.parametrize("method", [Method.FILTERED, Method.ANNEALED])
def test_without_a_document_of_the_top_level_there_is_nothing_to_filter(
    method: Method, corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    band = feedback(tmp_path, corpus, lambda row: (min(score_of(row), 4), "Fine."))
    error = refused(prepare_task(tmp_path, corpus, tokenizer, band, method=method))
    assert error.code == Exit.DATA
    assert (
        error.message
        == (
            f"{method} finds no document of the top level 5: annotated are "
            "11 of level 1, 11 of level 2, 11 of level 3, 22 of level 4"
        )
        or "of level 4" in error.message
    )
    assert "samplePercent" in error.hint


def test_feedback_that_fills_a_sequence_is_refused(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    band = feedback(tmp_path, corpus, lambda _: (3, "x" * 60))
    error = refused(prepare_task(tmp_path, corpus, tokenizer, band, length=64))
    assert error.code == Exit.CONFIG
    assert error.message == "feedback of 86 tokens leaves no room in sequences of 64"
    assert "maxFeedbackTokens" in error.hint


def test_without_any_critique_nothing_can_ask_for_the_best(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    band = feedback(tmp_path, corpus, lambda _: (3, ""))
    error = refused(prepare_task(tmp_path, corpus, tokenizer, band, rubric=None))
    assert (error.code, error.message) == (
        Exit.CONFIG, "no document has a critique, and there is no rubric that says what the best is told",
    )  # fmt: skip


def test_an_input_that_was_deleted_or_changed_is_named(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    job = prepare_task(tmp_path, corpus, tokenizer, method=Method.NEXT_TOKEN)
    path = tmp_path / "storage/artifacts" / corpus.key / "docs-00000.parquet"
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    with pytest.raises(ContentMismatch, match=f"file docs-00000.parquet of artifact {corpus.key}"):
        run_here(job)
    (path.parent / "manifest.json").unlink()
    done = run_step(job, tmp_path / "run")
    assert done.code == Exit.NO_INPUT
    assert f"artifact {corpus.key} (inventory)" in done.result.message and "run again" in done.result.hint


def test_a_tokenizer_that_is_not_there_is_named(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    pinned = prepare_task(tmp_path, corpus, tokenizer, method=Method.NEXT_TOKEN)

    def elsewhere(folder: Path) -> Task:
        source = ModelSource(tokenizer=f"file://{folder}")
        config = pinned.config.model_copy(update={"tokenizer": source})
        return pinned.model_copy(update={"config": config})

    (tmp_path / "empty").mkdir()
    for folder, message in (("gone", "does not exist"), ("empty", "has no tokenizer.json")):
        error = refused(elsewhere(tmp_path / folder))
        assert message in error.message and str(tmp_path / folder) in error.message
    (tmp_path / "empty/tokenizer.json").write_text("{")
    error = refused(elsewhere(tmp_path / "empty"))
    assert error.code == Exit.DATA and "tokenizer.json is damaged" in error.message
