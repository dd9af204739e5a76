"""A round of a model's own answers: verified, judged, and packed by what both say."""

import json
from pathlib import Path
from typing import Any

import pytest
from make.answers import answer, samples
from make.corpora import artifact, read
from make.feedback import RUBRIC, packed, spelt
from make.models import tokenizer_folder
from make.tasks import run_here, task

from ixt_workloads.contract.configs import AnnotateConfig, EvaluateConfig, PrepareConfig
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.figures import sound
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.metrics import CONTRADICTED, QUOTED, RIGHT, VERIFIED, VerifierResult
from ixt_workloads.contract.settings import (
    Conditioning,
    Evaluate,
    FeedbackFormat,
    Gate,
    Gates,
    Judge,
    LevelFrom,
    LossOnFeedback,
    Method,
    ModelSource,
    Prepare,
    StageType,
)
from ixt_workloads.contract.verifiers import JudgeSees, Verifier, VerifierType
from ixt_workloads.data.pinned import pins_of_model
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.steps.annotate.rows import ANSWERS_SCHEMA, Document, Row, Tally, to_parquet
from ixt_workloads.steps.annotate.verifying import QUOTES, document_of, say_verdict, verified
from ixt_workloads.store import ArtifactWriter, open_store
from ixt_workloads.verify.samples import Verdict, failure

NUMERIC = Verifier(type=VerifierType.NUMERIC)
JUDGE = Judge(model="judge", rubric=RUBRIC)
ROUND = [
    answer("1+1?", "2", "2"),
    answer("1+1?", "3", "2", 1),
    answer("2+2?", "4", "4"),
    answer("2+2?", "", "4", 1),
    answer("3+3?", "6", "six"),
]


def verified_round(storage: Path, **fields: Any) -> Task:
    config = AnnotateConfig(verifier=NUMERIC, gates=Gates(max_invalid_percent=50), **fields)
    return task(config, storage, {"inventory": samples(storage, ROUND).key})


# --- Annotate ---


def test_a_verifier_alone_says_of_each_answer_whether_it_is_right(tmp_path: Path) -> None:
    job = verified_round(tmp_path)
    assert run_here(job).message == (
        "4 of 5 answers have feedback; 1 Other (such as 332b333f.1.0: its reference is no number); "
        "2 of 4 answers are right"
    )
    found = artifact(tmp_path, job.key)
    rows = {row["id"]: row for row in read(found, "feedback-")}
    told = [(rows[row["id"]]["verified"], rows[row["id"]]["verdict"]) for row in ROUND]
    assert told == [
        (1.0, ""),
        (0.0, "is 3, not the reference"),
        (1.0, ""),
        (0.0, "has no number"),
        (None, "its reference is no number"),
    ]
    assert [rows[row["id"]]["status"] for row in ROUND] == ["ok"] * 4 + ["unverified"]
    assert (found.summary["verified"], found.summary["right"], found.summary["source"]) == (4, 2, "Verifier")


def test_answers_without_a_verdict_count_against_the_gate(tmp_path: Path) -> None:
    bad = [answer(f"{n}+1?", "2", "two") for n in range(4)]
    job = task(AnnotateConfig(verifier=NUMERIC), tmp_path, {"inventory": samples(tmp_path, bad).key})
    with pytest.raises(StepError, match="4 of 4 documents lack valid feedback"):
        run_here(job)


def judged(row: dict[str, Any], score: float, critique: str = "Well done.") -> Row:
    """A row of feedback as a judge and the verifier make it."""
    config = AnnotateConfig(verifier=NUMERIC, judge=JUDGE)
    ((_, (document,)),) = verified(config, [("shard", [document_of(row, JudgeSees.REFERENCE)])])
    found = Row(document.id, "ok", score, critique=critique)
    say_verdict(config, document, found)
    return found


def test_verdict_and_critique_are_columns_of_their_own() -> None:
    right, wrong, unknown = ROUND[0], ROUND[1], ROUND[4]
    found = judged(wrong, 2, "Off by one.")
    assert (found.status, found.score, found.critique) == ("ok", 2, "Off by one.")
    assert (found.verified, found.right, found.contradicts, found.quotes) == (0.0, False, False, False)
    assert judged(right, 1).contradicts
    assert judged(wrong, 5).contradicts
    assert not judged(right, 5).contradicts
    lost = judged(unknown, 5)
    assert (lost.status, lost.contradicts) == ("unverified", None)


def test_a_critique_that_quotes_the_reference_is_not_used() -> None:
    found = judged(ROUND[3], 2, "It should have said 4.")
    assert (found.quotes, found.critique, found.reason) == (True, "", QUOTES)
    assert found.score == 2


def test_the_judge_sees_the_reference_unless_told_otherwise() -> None:
    def shown(sees: JudgeSees) -> Document:
        return document_of(ROUND[1], sees)

    asked = "User: 1+1?\n\nAssistant: 3"
    assert shown(JudgeSees.ANSWER_ONLY).text == asked
    assert shown(JudgeSees.REFERENCE).text == f"{asked}\n\nReference answer, which may not be quoted: 2"


def tally(rows: list[Row]) -> Tally:
    total = Tally()
    for row in rows:
        total.add(row, "", 0)
    return total


def test_gates_look_at_contradictions_and_quotations() -> None:
    right, empty = ROUND[0], ROUND[3]
    total = tally([judged(right, 1 if n < 5 else 5) for n in range(10)])
    total.check(Gates(max_contradiction_percent=50), 1)
    with pytest.raises(StepError, match="5 of 10 answers have a judge's score that contradicts the verifier"):
        total.check(Gates(max_contradiction_percent=49), 1)
    total.check(Gates(max_contradiction_percent=0, warn=(Gate.CONTRADICTION,)), 1)
    assert total.summary("Judge", 0)["contradictionPercent"] == 50
    total = tally([judged(empty, 2, "It should be 4." if n < 2 else "It is empty.") for n in range(10)])
    assert total.summary("Judge", 0)["quotingPercent"] == 20
    assert "2 of 10 critiques quote the reference and are not used" in total.told()
    with pytest.raises(StepError) as refused:
        total.check(Gates(), 1)
    words = "2 of 10 critiques quote the reference answer: feedback leaks it, more than gates.maxQuoting"
    assert refused.value.message == f"{words}Percent = 10"


def test_figures_say_what_the_verifier_found_and_what_judge_and_critiques_make_of_it() -> None:
    scores = {0: 1, 1: 1, 2: 5, 3: 1, 4: 5}
    critiques = {3: "It should be 4."}
    rows = [judged(row, scores[n], critiques.get(n, "So so.")) for n, row in enumerate(ROUND)]
    figures, refused = sound(Tally.from_json(tally(rows).to_json()).figures())
    assert not refused
    nothing = dict.fromkeys(VerifierResult, 0)
    assert figures[VERIFIED.name] == {**nothing, "Right": 2, "Wrong": 2, "NoVerdict": 1}
    shares = [figures[metric.name][""] for metric in (RIGHT, CONTRADICTED, QUOTED)]
    assert shares == [0.5, 0.25, 0.2]
    assert VERIFIED.name not in Tally(documents=1).figures(), "documents are not verified"


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (failure("the verifier raised ValueError: no"), VerifierResult.RAISED),
        (failure("the verifier took too long"), VerifierResult.TIMED_OUT),
        (failure("the verifier ended by SIGKILL"), VerifierResult.NO_VERDICT),
        (Verdict(None), VerifierResult.NOT_APPLICABLE),
        (Verdict(0.4), VerifierResult.WRONG),
    ],
)
def test_each_verdict_is_of_a_kind(said: Verdict, result: VerifierResult) -> None:
    assert said.result(right=False) is result


# --- Evaluate ---


def test_answers_to_held_out_prompts_are_scored_by_prefix(tmp_path: Path) -> None:
    rows = [
        {**answer(f"{n}+{n}?", said, 2 * n, number, prefix=prefix), "finish": finish}
        for n in (1, 2)
        for prefix, saids in (("Best", ("2", "4", "9", "9")), ("None", ("9", "9", "9", "9")))
        for number, said in enumerate(saids)
        for finish in ("length" if number == 3 else "stop",)
    ]
    config = EvaluateConfig(stage_type=StageType.ROLLOUT, evaluate=Evaluate(), seed=0, verifier=NUMERIC)
    job = task(config, tmp_path, {"samples": samples(tmp_path, rows).key})
    # Each prompt has one right answer of four: C(3, 2) / C(4, 2) = 1/2 of two fail.
    said = "pass@1 best 25.0 % (pass@4 100.0 %), none 0.0 % (pass@4 0.0 %)"
    assert run_here(job).message == said
    found = artifact(tmp_path, job.key).summary["rollout"]
    assert found["Best"]["passAt"] == {"1": 0.25, "2": 0.5, "4": 1.0}
    assert (found["Best"]["items"], found["Best"]["cut"]) == ([0.25, 0.25], 0.25)
    assert (found["None"]["sameAnswers"], found["Best"]["sameAnswers"]) == (1, 0)


# --- Prepare ---


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"), chat=True)


def packing(storage: Path, tokenizer: Path, rounds: dict[str, tuple[str, str]], **fields: Any) -> Task:
    """A task of Prepare over rounds: of each the keys of its answers and of their feedback."""
    config = PrepareConfig(
        stage_type=StageType.ROLLOUT,
        conditioning=Conditioning(
            dropout_percent=0,
            format=fields.pop("format", FeedbackFormat.TOKEN),
            loss_on_feedback=LossOnFeedback.MASK,
            level_from=fields.pop("level_from", None),
        ),
        prepare=Prepare(sequence_length=128),
        verifier=NUMERIC,
        tokenizer=ModelSource(tokenizer=f"file://{tokenizer}"),
        **{"method": Method.CONDITIONED, **fields},
    )
    inputs = {"inventory": prompts(storage)}
    for number, (answers, feedback) in rounds.items():
        inputs |= {f"samples/{number}": answers, f"feedback/{number}": feedback}
    return task(config, storage, inputs, pins_of_model(config.tokenizer, "tokenizer"))


def prompts(storage: Path) -> str:
    """The stage's Inventory: of its prompts only the held-out ones matter here."""
    key = "6" * 32
    held = samples(storage, ROUND[:2], "7" * 32).file("docs-00000.parquet").read_bytes()
    writer = ArtifactWriter(open_store(f"file://{storage}"), key, "Inventory", {}, run="test", attempt=0)
    writer.add("holdout.parquet", held)
    return writer.commit({"documents": 0, "holdout": 1}, ["holdout.parquet"]).key


def trained_on(job: Task) -> list[tuple[str, int]]:
    """What each answer's text shows of prompt and answer, with its level."""
    data = packed(job)
    found = []
    for place in range(len(data)):
        row = data[place]
        ends = [*row.starts[1:], row.length]
        for start, end, level in zip(row.starts, ends, row.levels, strict=True):
            found.append((spelt(row.input_ids[start:end]), int(level)))
    return sorted(found)


def test_levels_are_the_verifiers_where_there_is_no_judge(tmp_path: Path, tokenizer: Path) -> None:
    annotated = verified_round(tmp_path)
    run_here(annotated)
    job = packing(tmp_path, tokenizer, {"1": (annotated.inputs["inventory"], annotated.key)})
    run_here(job)
    shown = {text[text.index("+") - 1 :]: level for text, level in trained_on(job)}
    by_answer = {(key[:4], "3" in key[4:], "4" in key[4:]): level for key, level in shown.items()}
    assert by_answer[("1+1?", False, False)] == 5
    assert by_answer[("1+1?", True, False)] == 1
    assert by_answer[("2+2?", False, True)] == 5
    # Nobody knows whether the last answer is right: it trains without feedback.
    assert by_answer[("3+3?", False, False)] == 0
    contract = Prefixes.read(artifact(tmp_path, job.key))
    assert contract
    assert (contract.best, contract.chat) == ("Quality: 5/5", True)
    assert artifact(tmp_path, job.key).file("holdout.parquet").exists()


def test_rejection_sampling_trains_on_right_answers_of_all_rounds_given(
    tmp_path: Path, tokenizer: Path
) -> None:
    annotated = verified_round(tmp_path)
    run_here(annotated)
    one = (annotated.inputs["inventory"], annotated.key)
    more = samples(tmp_path, [answer("5+5?", "10", "10"), answer("5+5?", "11", "10", 1)], "8" * 32)
    second = task(AnnotateConfig(verifier=NUMERIC), tmp_path, {"inventory": more.key})
    run_here(second)
    job = packing(
        tmp_path, tokenizer, {"1": one, "2": (more.key, second.key)}, method=Method.REJECTION_SAMPLING
    )
    run_here(job)
    assert sorted({text[text.index("+") - 1 :][:4] for text, _ in trained_on(job)}) == [
        "1+1?",
        "2+2?",
        "5+5?",
    ]
    assert all("Quality" not in text and not level for text, level in trained_on(job))
    assert len(trained_on(job)) == 3
    blocks = [path for path in artifact(tmp_path, job.key).paths if path.startswith("main-")]
    assert blocks == [f"main-{number}-{part:05d}.arrow" for number in ("01", "02") for part in (0, 1)]


def test_a_policy_whose_answers_are_all_right_goes_on(tmp_path: Path, tokenizer: Path) -> None:
    """With feedback, levels that are all the same would end the run."""
    right = samples(tmp_path, [answer(f"{number}+0?", str(number), str(number)) for number in range(120)])
    annotated = task(AnnotateConfig(verifier=NUMERIC), tmp_path, {"inventory": right.key})
    run_here(annotated)
    rounds, gates = {"1": (right.key, annotated.key)}, Gates(warn=())
    with pytest.raises(StepError, match="120 of 120 documents with feedback are of level 5"):
        run_here(packing(tmp_path, tokenizer, rounds, gates=gates))
    job = packing(tmp_path, tokenizer, rounds, gates=gates, method=Method.REJECTION_SAMPLING)
    assert "of level" not in run_here(job).message


def test_without_a_right_answer_there_is_nothing_to_train_on(tmp_path: Path, tokenizer: Path) -> None:
    wrong = samples(tmp_path, [answer("5+5?", "1", "10"), answer("5+5?", "11", "10", 1)])
    annotated = task(AnnotateConfig(verifier=NUMERIC), tmp_path, {"inventory": wrong.key})
    run_here(annotated)
    rounds = {"1": (wrong.key, annotated.key)}
    with pytest.raises(StepError, match=r"nothing to train on: no answer is right \(2 have a verdict\)"):
        run_here(packing(tmp_path, tokenizer, rounds, method=Method.REJECTION_SAMPLING))


def test_both_make_a_level_together(tmp_path: Path, tokenizer: Path) -> None:
    """The judge's score orders answers that are as right as each other."""
    scores = {"2": 5.0, "3": 5.0, "4": 1.0, "": None}
    found = samples(tmp_path, ROUND)
    config = AnnotateConfig(verifier=NUMERIC, judge=JUDGE)
    job = task(config, tmp_path, {"inventory": found.key})
    writer = ArtifactWriter(open_store(job.storage), job.key, "Annotate", job.preimage, run="test", attempt=0)
    files = {}
    for name in ("00000", "00001"):
        rows = []
        for row in read(found, f"docs-{name}"):
            score = scores.get(row["completion"])
            made = Row(row["id"], "ok" if score else "invalid", score, axes=json.dumps({}), critique="So so.")
            right = row["completion"] == json.loads(row["answer"])
            made.verified = None if row["completion"] == "6" else float(right)
            rows.append(made)
        files[f"feedback-{name}.parquet"] = to_parquet(rows, Tally(), ANSWERS_SCHEMA)
    for name, data in files.items():
        writer.add(name, data)
    writer.commit({}, files)

    def levels(**fields: Any) -> list[int]:
        made = packing(tmp_path, tokenizer, {"1": (found.key, job.key)}, rubric=RUBRIC, **fields)
        run_here(made)
        return sorted(level for _, level in trained_on(made))

    # Right and liked 5, right and disliked 4, wrong and liked 2, wrong and not judged 1, nothing known 0.
    assert levels() == [0, 1, 2, 4, 5]
    assert levels(level_from=LevelFrom.VERIFIER) == [0, 1, 1, 5, 5]
    assert levels(level_from=LevelFrom.JUDGE) == [0, 0, 1, 5, 5]
