"""A judge is tried on a first sample before all documents are paid for."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from make.corpora import texts
from make.feedback import inventory
from make.judge import Double
from make.tasks import Ran, run_step, task

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.settings import Gate, Gates, Judge
from ixt_workloads.steps.annotate.probing import LEAST, PROBED, Probe, probe, rewritten
from ixt_workloads.steps.annotate.rows import Document, Row
from ixt_workloads.store import Artifact, open_store

RUBRIC = RubricText(
    instructions="Judge it.", axes=("style", "depth"), ideal_critique="Good.", worst_critique="Poor."
)
TRIALS = 5
"""Questions before the first document."""

DOCUMENTS = [
    Document(f"{place:032x}", f"Document {place} has its own words.", score=float(place % 5))
    for place in range(PROBED)
]


def judged(read: Any, documents: list[Document] = DOCUMENTS) -> Probe:
    async def row(document: Document) -> Row:
        score, critique = read(document)
        axes = json.dumps({"style": score, "depth": score})
        return Row(document.id, "ok", float(score), axes=axes, critique=critique)

    found, rows = asyncio.run(probe(row, documents, RUBRIC))
    assert len(rows) == 3 * len(documents)
    return found


def steady(document: Document) -> tuple[int, str]:
    return int(document.id, 16) % 5 + 1, "Sound."


def test_a_judge_that_reads_the_document_passes_all_gates() -> None:
    found = judged(steady)
    assert found.check(Gates(warn=())) == []
    assert (found.disagreement, found.rewriting) == (0, 0)
    assert found.reference == pytest.approx(100)
    assert "00000000 1 “Sound.”; 00000000 2 “Sound.”" in found.words()


def by_chance(document: Document) -> tuple[int, str]:
    return random.randint(1, 5), "Sound."


def by_form(document: Document) -> tuple[int, str]:
    plain = document.text in {each.text for each in DOCUMENTS}
    return (steady(document)[0] if plain else 1), "Sound."


@pytest.mark.parametrize(
    ("read", "gate", "words"),
    [
        (by_chance, Gate.DISAGREEMENT, "of the scale lie between two readings of a document"),
        (by_form, Gate.REWRITING, "between a document and its harmless rewriting"),
        (lambda d: (5 - int(d.id, 16) % 5, "Sound."), Gate.REFERENCE, "100 % is the rank correlation"),
        (lambda _: (3, "Sound."), Gate.ONE_SCORE, "100 % of the documents get the same score"),
        (lambda d: (steady(d)[0], f"It says: {d.text} And has its own words here."), Gate.OVERLAP, "leaks"),
    ],
)  # fmt: skip
def test_each_gate_ends_the_run_or_warns(read: Any, gate: Gate, words: str) -> None:
    documents = [
        Document(each.id, f"{each.text} They are many enough for runs of eight.", each.score)
        for each in DOCUMENTS
    ] if gate is Gate.OVERLAP else DOCUMENTS  # fmt: skip
    random.seed(0)
    found = judged(read, documents)
    others = tuple(each for each in Gate if each is not gate)
    with pytest.raises(StepError, match=words) as failed:
        found.check(Gates(warn=others))
    assert failed.value.code is Exit.DATA
    assert f"list {gate} in gates.warn" in failed.value.hint
    assert any(words in warning for warning in found.check(Gates(warn=tuple(Gate))))


def test_documents_without_a_reference_say_nothing_about_it() -> None:
    assert judged(steady, [Document(each.id, each.text) for each in DOCUMENTS]).reference is None


def test_rewriting_changes_the_form_alone() -> None:
    text = "One Line.\nAnother  line."
    for place in range(3):
        found = rewritten(text, place)
        assert found != text
        assert "".join(text.lower().split()) in "".join(found.lower().split())


# --- In the step ---


def annotate(folder: Path, double: Double, second: Double | None = None) -> tuple[Task, Ran]:
    """All documents of a stage that is large enough, annotated by the double."""
    found = inventory(folder, texts(LEAST), holdout_documents=0)
    judge = Judge(model="judge", rubric=RUBRIC, active_parameters=1000, second="judge" if second else None)
    job = task(AnnotateConfig(judge=judge), folder / "storage", {"inventory": found.key}, {"judge": "f" * 64})
    env = {"IXT_ENDPOINT_URL": double.url} | ({"IXT_SECOND_URL": second.url} if second else {})
    return job, run_step(job, folder / "run", env=env)


def test_the_sample_is_read_first_told_and_counted(tmp_path: Path) -> None:
    """The double's answers follow from the text: it agrees with itself, and not after rewriting."""
    with Double() as double:
        job, ran = annotate(tmp_path, double)
        assert ran.code == 0, ran.log
        assert sum(double.asked.values()) == TRIALS + 3 * PROBED + LEAST
    assert "lie between a document and its harmless rewriting" in ran.result.message
    assert f"the judge on {PROBED} documents: differs from itself by 0 % of the scale" in ran.log
    summary = Artifact.open(open_store(job.storage), job.key).summary
    assert summary["documents"] == summary["valid"] == LEAST
    assert summary["probe"]["disagreement"] == 0
    assert summary["probe"]["rewriting"] > 20
    # What the sample cost is in the account.
    assert summary["tokens"]["wasted"] > 0


def test_a_second_judge_reads_the_sample_and_how_far_they_agree_is_told(tmp_path: Path) -> None:
    """The second double says what the first says of each document."""
    with Double() as double, Double() as second:
        job, ran = annotate(tmp_path, double, second)
        assert ran.code == 0, ran.log
        assert sum(second.asked.values()) == TRIALS + PROBED
        assert sum(double.asked.values()) == TRIALS + 3 * PROBED + LEAST
    assert "rank correlation with the second judge 1.00" in ran.log
    assert Artifact.open(open_store(job.storage), job.key).summary["probe"]["second"] == pytest.approx(100)


def test_a_second_judge_that_cannot_be_asked_ends_the_run_before_all_is_paid(tmp_path: Path) -> None:
    with Double() as double, Double() as second:
        second.mode = "Garbage"
        _, ran = annotate(tmp_path, double, second)
        assert sum(double.asked.values()) == TRIALS + 3 * PROBED
    assert ran.code == Exit.DATA
    assert ran.result.message.startswith("judge.second: none of 4 trial answers of the judge is valid")


def test_a_judge_that_answers_by_chance_is_stopped_before_all_is_paid(tmp_path: Path) -> None:
    with Double() as double:
        double.salted = True
        _, ran = annotate(tmp_path, double)
        assert sum(double.asked.values()) <= TRIALS + 3 * PROBED
    assert ran.code == Exit.DATA
    assert "of the scale lie between two readings of a document" in ran.result.message
    assert "gates.maxDisagreementPercent = 15" in ran.result.message
    assert not list((tmp_path / "storage").glob("artifacts/*/feedback-*"))
