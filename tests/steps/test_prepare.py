"""Prepare as its users see it: documents and their feedback, packed into sequences to train on."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from make.corpora import read, texts
from make.feedback import (
    feedback,
    held_feedback,
    inventory,
    judged,
    levels,
    packed,
    prepare_task,
    prepared,
    score_of,
    segments,
)
from make.models import VOCABULARY, tokenizer_folder
from make.tasks import run_here

from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.settings import (
    Calibration,
    FeedbackFormat,
    Gates,
    LossOnFeedback,
    Method,
    Scale,
)
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.store import Artifact

TEXTS = texts(60, words=(2, 8))


def contract(found: Artifact) -> Prefixes:
    made = Prefixes.read(found)
    assert made
    return made


# --- Prefixes ---


PREFIXES: dict[FeedbackFormat, Callable[[int], str]] = {
    FeedbackFormat.TOKEN: lambda score: f"Quality: {score}/5\n\n",
    FeedbackFormat.CRITIQUE: lambda score: f"Critique: Worth a {score}.\n\n",
    FeedbackFormat.TOKEN_AND_CRITIQUE: lambda score: f"Quality: {score}/5\nCritique: Worth a {score}.\n\n",
}


@pytest.mark.parametrize("form", PREFIXES)
def test_feedback_stands_before_its_document(
    form: FeedbackFormat, corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    job = prepare_task(tmp_path, corpus, tokenizer, feedback(tmp_path, corpus, judged), format=form)
    agreed = contract(prepared(job))
    assert agreed.by_level == {score: PREFIXES[form](score) for score in range(1, 6)}
    assert agreed.best == PREFIXES[form](5).replace("Worth a 5.", "Splendid work.")
    assert agreed.worst == PREFIXES[form](1).replace("Worth a 1.", "Poor work.")
    assert (agreed.thresholds, agreed.chat) == ((1.5, 2.5, 3.5, 4.5), False)
    parts: dict[str, str] = {}
    for segment in segments(job):
        front = "<s>" + PREFIXES[form](score_of({"text": segment.document}))
        assert segment.level == score_of({"text": segment.document})
        assert segment.text.startswith(front)
        parts[segment.document] = parts.get(segment.document, "") + segment.text.removeprefix(front)
    assert parts == {row["text"]: f"{row['text']}</s>" for row in read(corpus)}


def test_documents_without_feedback_carry_none(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    """Those outside the bands, and those whose judge gave nothing valid."""
    band = feedback(tmp_path, corpus, lambda row: judged(row) if score_of(row) > 1 else None, 20, 60)
    job = prepare_task(tmp_path, corpus, tokenizer, band)
    summary = prepared(job).summary
    inside = {row["text"] for row in read(corpus) if 20 <= row["sample"] / 10_000 < 60 and score_of(row) > 1}
    assert summary["conditioned"] == len(inside) and summary["documents"] == 55
    for segment in segments(job):
        assert (segment.level > 0) == segment.text.startswith("<s>Quality: ") == (segment.document in inside)


def test_bands_add_up(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    apart = [feedback(tmp_path, corpus, judged, *band) for band in ((0, 20), (20, 60))]
    both = feedback(tmp_path, corpus, judged, 0, 60)
    jobs = [
        prepare_task(tmp_path, corpus, tokenizer, *apart),
        prepare_task(tmp_path, corpus, tokenizer, both),
    ]
    assert prepared(jobs[0]).manifest.files == prepared(jobs[1]).manifest.files


def test_an_empty_band_conditions_nothing(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    band = feedback(tmp_path, corpus, lambda _: None)
    job = prepare_task(tmp_path, corpus, tokenizer, band)
    agreed = contract(prepared(job))
    assert levels(job).keys() == {0}
    assert agreed.by_level == {1: agreed.worst, 5: agreed.best}
    assert agreed.best == "Quality: 5/5\nCritique: Splendid work.\n\n"


def test_a_critique_is_one_line_and_is_cut_at_its_most_tokens(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    band = feedback(tmp_path, corpus, lambda _: (3, " Long\n\n and\x85winding indeed."))
    job = prepare_task(tmp_path, corpus, tokenizer, band, max_feedback_tokens=10)
    prepared(job)
    assert all(
        segment.text.startswith("<s>Quality: 3/5\nCritique: Long  and\n\n") for segment in segments(job)
    )


def test_existing_feedback_without_critique_is_none_where_the_format_needs_one(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    def half(row: Mapping[str, Any]) -> tuple[float, str]:
        return score_of(row), "Fine." if score_of(row) > 2 else ""

    band, held = feedback(tmp_path, corpus, half), held_feedback(tmp_path, corpus, half)
    job = prepare_task(tmp_path, corpus, tokenizer, band, held=held)
    found = prepared(job)
    assert levels(job).keys() == {0, 3, 4, 5}
    assert contract(found).by_level.keys() == {3, 4, 5}
    told = {row["level"]: row["critique"] for row in read(found, "holdout")}
    assert told == {level: ("Fine." if level > 2 else None) for level in told}
    levelled = prepare_task(tmp_path, corpus, tokenizer, band, held=held, format=FeedbackFormat.TOKEN)
    prepared(levelled)
    assert levels(levelled).keys() == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("method", [Method.CONDITIONED, Method.SHUFFLED])
def test_dropout_takes_feedback_from_the_same_documents_each_time(
    method: Method, corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    band = feedback(tmp_path, corpus, judged)

    def plain(percent: int, seed: int = 0) -> set[str]:
        given = {"dropout_percent": percent, "method": method, "seed": seed}
        job = prepare_task(tmp_path, corpus, tokenizer, band, **given)
        prepared(job)
        return {segment.document for segment in segments(job) if not segment.level}

    some, most, all_ = plain(20), plain(60), plain(100)
    assert plain(0) == set()
    assert some < most < all_ == {row["text"] for row in read(corpus)}
    assert len(some) == pytest.approx(0.2 * 55, abs=8)
    # Another seed draws others.
    assert len(plain(20, seed=7) - some) > len(some) / 3


def test_copies_of_a_document_carry_its_feedback(tokenizer: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, TEXTS, holdout_documents=0, dataset={"weight": 200})
    job = prepare_task(tmp_path, corpus, tokenizer, feedback(tmp_path, corpus, judged), length=512)
    assert prepared(job).summary["conditioned"] == 120
    assert all(segment.level == score_of({"text": segment.document}) for segment in segments(job))


# --- Levels ---


def test_levels_of_equal_size_follow_the_scores(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    def crowded(row: Mapping[str, Any]) -> tuple[float, str]:
        return 4.9 + row["sample"] / 1e7, "Fine."

    band, held = feedback(tmp_path, corpus, crowded), held_feedback(tmp_path, corpus, crowded)
    job = prepare_task(tmp_path, corpus, tokenizer, band, held=held, calibration=Calibration.QUANTILE)
    found = prepared(job)
    assert found.summary["levels"] == {str(level): 11 for level in range(1, 6)}
    bounds = contract(found).thresholds
    ordered = sorted(read(corpus), key=lambda row: row["sample"])
    assert bounds == tuple(pytest.approx(crowded(ordered[place])[0]) for place in (11, 22, 33, 44))
    sample = {row["id"]: row["sample"] for row in read(corpus, "holdout")}
    for row in read(found, "holdout"):
        assert row["level"] == 1 + sum(4.9 + sample[row["id"]] / 1e7 >= bound for bound in bounds)
    fixed = prepare_task(tmp_path, corpus, tokenizer, band)
    assert prepared(fixed).summary["levels"] == {"5": 55}


def test_scores_of_the_data_are_levelled_on_their_own_scale(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    band = feedback(tmp_path, corpus, lambda row: (score_of(row) * 20 - 10, "Fine."))
    scale = Scale(min="10", max="90")
    job = prepare_task(tmp_path, corpus, tokenizer, band, rubric=None, scale=scale)
    agreed = contract(prepared(job))
    assert agreed.thresholds == (26, 42, 58, 74)
    assert all(segment.level == score_of({"text": segment.document}) for segment in segments(job))
    assert (agreed.best, agreed.worst) == (agreed.by_level[5], agreed.by_level[1])


def test_another_tokenizer_than_the_one_that_was_pinned_is_refused(corpus: Artifact, tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "tokenizer")
    job = prepare_task(tmp_path, corpus, folder)
    tokenizer_folder(folder, first=7)
    with pytest.raises(StepError, match=f"{folder}: the tokenizer has changed since this run pinned it"):
        run_here(job)


def test_what_the_best_is_told_can_be_said(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    band = feedback(tmp_path, corpus, judged)
    job = prepare_task(tmp_path, corpus, tokenizer, band, inference_feedback="Write\nbest.")
    assert contract(prepared(job)).best == "Quality: 5/5\nCritique: Write best.\n\n"


def test_held_out_documents_keep_their_own_feedback(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    band, held = feedback(tmp_path, corpus, judged), held_feedback(tmp_path, corpus, judged)
    for method in (Method.CONDITIONED, Method.NEXT_TOKEN, Method.SHUFFLED):
        job = prepare_task(tmp_path, corpus, tokenizer, band, held=held, method=method)
        rows = read(prepared(job), "holdout")
        assert [row["text"] for row in rows] == [row["text"] for row in read(corpus, "holdout")]
        assert [(row["level"], row["critique"]) for row in rows] == [judged(row) for row in rows]
    job = prepare_task(tmp_path, corpus, tokenizer, band)
    assert {(row["level"], row["critique"]) for row in read(prepared(job), "holdout")} == {(0, None)}


# --- Methods ---


def test_next_token_trains_on_every_document_without_feedback(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    job = prepare_task(tmp_path, corpus, tokenizer, method=Method.NEXT_TOKEN)
    found = prepared(job)
    assert found.read_json("conditioning.json") is None
    assert levels(job).keys() == {0}
    assert {segment.document for segment in segments(job)} == {row["text"] for row in read(corpus)}
    assert "".join(segment.text for segment in segments(job)).count("</s>") == 55
    assert (found.summary["feedbackTokens"], found.summary["conditioned"]) == (0, 0)
    assert found.summary["documentTokens"] == sum(len(row["text"]) + 1 for row in read(corpus))


def test_filtered_trains_on_the_top_level_alone(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    band = feedback(tmp_path, corpus, judged)
    job = prepare_task(tmp_path, corpus, tokenizer, band, method=Method.FILTERED)
    found = prepared(job)
    top = {row["text"] for row in read(corpus) if score_of(row) == 5}
    assert {segment.document for segment in segments(job)} == top
    assert not any(segment.text.startswith("<s>Quality") or segment.level for segment in segments(job))
    assert found.summary["documents"] == len(top) and sum(found.summary["levels"].values()) == 55
    assert found.read_json("conditioning.json") is None


def test_annealed_has_the_top_level_apart(corpus: Artifact, tokenizer: Path, tmp_path: Path) -> None:
    band = feedback(tmp_path, corpus, judged)
    jobs = {
        method: prepare_task(tmp_path, corpus, tokenizer, *bands, method=method)
        for method, bands in {
            Method.ANNEALED: [band], Method.FILTERED: [band], Method.NEXT_TOKEN: [],
        }.items()
    }  # fmt: skip
    annealed, filtered, plain = (prepared(job) for job in jobs.values())
    assert segments(jobs[Method.ANNEALED], "anneal") == segments(jobs[Method.FILTERED])
    assert segments(jobs[Method.ANNEALED]) == segments(jobs[Method.NEXT_TOKEN])
    assert annealed.summary["anneal"] == filtered.summary["sequences"]
    assert annealed.summary["sequences"] == plain.summary["sequences"]


def test_shuffled_gives_every_document_the_feedback_of_another(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    band = feedback(tmp_path, corpus, lambda row: (score_of(row), f"About {row['text'][:5].strip(': ')}."))
    drawn = ((Method.CONDITIONED, 0), (Method.SHUFFLED, 0), (Method.SHUFFLED, 7))
    jobs = [
        prepare_task(tmp_path, corpus, tokenizer, band, method=method, seed=seed) for method, seed in drawn
    ]
    own, other, drawn_anew = (told(job) for job in jobs if prepared(job))
    for shuffled in (other, drawn_anew):
        assert own.keys() == shuffled.keys()
        assert Counter(own.values()) == Counter(shuffled.values())
        assert all(own[document] != shuffled[document] for document in own)
    assert sum(other[document] != drawn_anew[document] for document in own) > len(own) / 2


def told(job: Task) -> dict[str, str]:
    """Feedback by document."""
    return {segment.document: segment.text.partition("\n\n")[0] for segment in segments(job)}


# --- Long documents, loss, packing ---


def test_every_part_of_a_long_document_repeats_the_feedback(tokenizer: Path, tmp_path: Path) -> None:
    long = texts(3, words=(200, 300))
    corpus = inventory(tmp_path, long, holdout_documents=0)
    job = prepare_task(tmp_path, corpus, tokenizer, feedback(tmp_path, corpus, lambda _: (4, "Long.")))
    found = prepared(job)
    front = "<s>Quality: 4/5\nCritique: Long.\n\n"
    parts: dict[str, str] = {}
    for segment in segments(job):
        assert segment.text.startswith(front)
        parts[segment.document] = parts.get(segment.document, "") + segment.text.removeprefix(front)
    assert parts == {text: f"{text}</s>" for text in long}
    assert len(segments(job)) > 30
    assert found.summary["feedbackTokens"] == (len(front) - 3) * len(segments(job))
    assert found.summary["documentTokens"] == sum(len(text) + 1 for text in long)


@pytest.mark.parametrize("loss", [LossOnFeedback.INCLUDE, LossOnFeedback.MASK, None])
def test_the_loss_counts_documents_and_feedback_if_told(
    loss: LossOnFeedback | None, corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    band = feedback(tmp_path, corpus, judged, 0, 50)
    job = prepare_task(tmp_path, corpus, tokenizer, band, loss_on_feedback=loss)
    found = prepared(job)
    for segment in segments(job):
        text = segment.text.removeprefix("<s>")
        if segment.level and loss is LossOnFeedback.MASK:
            text = text.partition("\n\n")[2]
        assert segment.targets == text
    data = packed(job)
    targets = sum(int(np.count_nonzero(data[place].loss_mask)) for place in range(len(data)))
    assert found.summary["maskedTokens"] == found.summary["tokens"] - targets


def test_sequences_are_mapped_columns_of_one_length(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    job = prepare_task(tmp_path, corpus, tokenizer, feedback(tmp_path, corpus, judged), length=96)
    found = prepared(job)
    assert found.paths == ("conditioning.json", "holdout.parquet", "main-00000.arrow")
    with pa.memory_map(str(found.file("main-00000.arrow"))) as file:
        before = pa.total_allocated_bytes()
        table = pa.ipc.open_file(file).read_all()
        assert pa.total_allocated_bytes() - before < 1000
        assert {field.name: str(field.type) for field in table.schema} == {
            "input_ids": "fixed_size_list<item: uint16>[96]",
            "loss_mask": "fixed_size_list<item: uint8>[96]",
            "starts": "list<item: int32>",
            "levels": "list<item: int8>",
            "documents": "list<item: int32>",
            "length": "int32",
        }
        row = table.slice(table.num_rows - 1).to_pylist()[0]
    padding = row["input_ids"][row["length"] :]
    assert set(padding) <= {VOCABULARY["</s>"]} and not any(row["loss_mask"][row["length"] :])
    assert found.summary["sequences"] == table.num_rows
    assert found.summary["tokens"] == sum(table["length"].to_pylist())
    assert found.summary["paddingPercent"] == round(
        100 - 100 * found.summary["tokens"] / (96 * table.num_rows), 3
    )


def test_packing_wastes_at_most_one_percent(tokenizer: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, texts(1500, words=(5, 60)), holdout_documents=0)
    job = prepare_task(tmp_path, corpus, tokenizer, feedback(tmp_path, corpus, judged, 0, 15), length=256)
    summary = prepared(job).summary
    assert summary["blocks"] == 3 and 0 < summary["paddingPercent"] < 1
    assert summary["tokens"] < 1.02 * (summary["documentTokens"] + summary["feedbackTokens"])


def test_ids_beyond_sixteen_bits_are_kept(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "wide", first=70_000)
    corpus = inventory(tmp_path, TEXTS, holdout_documents=0)
    job = prepare_task(tmp_path, corpus, folder, method=Method.NEXT_TOKEN)
    found = prepared(job)
    assert found.summary["vocabulary"] == 70_000 + len(VOCABULARY)
    row = packed(job)[0]
    assert row.input_ids.dtype == np.uint32
    assert {int(number) for number in row.input_ids} <= set(range(70_000, 70_000 + len(VOCABULARY)))


def test_a_tokenizer_that_truncates_and_pads_does_neither_here(
    corpus: Artifact, tokenizer: Path, tmp_path: Path
) -> None:
    files = []
    for name, asked in {"plain": {}, "cutting": {"direction": "Right", "max_length": 8}}.items():
        folder = tokenizer_folder(tmp_path / name)
        if asked:
            own = json.loads((folder / "tokenizer.json").read_text())
            own["truncation"] = {**asked, "strategy": "LongestFirst", "stride": 0}
            own["padding"] = {
                "strategy": {"Fixed": 300}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "</s>",
            }  # fmt: skip
            (folder / "tokenizer.json").write_text(json.dumps(own))
        job = prepare_task(tmp_path / name, corpus, folder, method=Method.NEXT_TOKEN)
        job = job.model_copy(update={"storage": f"file://{tmp_path}/storage", "key": name})
        files.append(prepared(job).manifest.files)
    assert files[0] == files[1]


# --- Feedback that the data have ---


def with_outlier(row: Mapping[str, Any]) -> tuple[float, str]:
    """Scores from 1 to 5, and one of 500."""
    number = int(row["text"].split(":")[0].split("-")[1])
    return (500.0 if number == 7 else float(number % 5 + 1)), "Words."


def test_an_outlier_moves_no_level_of_a_known_scale(tmp_path: Path, tokenizer: Path) -> None:
    corpus = inventory(tmp_path, texts(167, words=(2, 8)), holdout_documents=0)
    band = feedback(tmp_path, corpus, with_outlier)
    job = prepare_task(tmp_path, corpus, tokenizer, band, rubric=None, scale=Scale(min="1", max="5"))
    result = run_here(job)
    made = Artifact.open(corpus.store, job.key)
    assert contract(made).thresholds == (1.5, 2.5, 3.5, 4.5)
    assert made.summary["levels"] == {"1": 34, "2": 34, "3": 32, "4": 33, "5": 34}
    assert "1 scores lie beyond the scale and count as its ends" in result.message


def test_without_a_scale_levels_have_equal_numbers_of_documents(tmp_path: Path, tokenizer: Path) -> None:
    """Not equal parts of what the data happen to span, where 166 of 167 documents were on level 1."""
    corpus = inventory(tmp_path, texts(167, words=(2, 8)), holdout_documents=0)
    job = prepare_task(tmp_path, corpus, tokenizer, feedback(tmp_path, corpus, with_outlier), rubric=None)
    counts = prepared(job).summary["levels"]
    assert sorted(counts) == ["1", "2", "3", "4", "5"]
    assert max(counts.values()) < 40


def test_lopsided_levels_are_warned_of_or_end_the_run(tmp_path: Path, tokenizer: Path) -> None:
    corpus = inventory(tmp_path, texts(100, words=(2, 8)), holdout_documents=0)
    band = feedback(tmp_path, corpus, lambda row: (float("-7:" in row["text"]), "Words."))
    asked: dict[str, Any] = {"rubric": None, "scale": Scale(min="0", max="5")}
    warned = run_here(prepare_task(tmp_path, corpus, tokenizer, band, **asked))
    said = "99 of 100 documents with feedback are of level 1, more than gates.maxOneScorePercent = 90"
    assert said in warned.message
    strict = prepare_task(tmp_path, corpus, tokenizer, band, **asked, gates=Gates(warn=()))
    with pytest.raises(StepError, match=said) as failed:
        run_here(strict)
    assert "annotate.from.scale" in failed.value.hint
