"""Inventory as its users see it: documents in one order whatever their files, pins, and answers."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.corpora import (
    arrow,
    artifact,
    chat,
    csv_file,
    dataset,
    inventory_task,
    jsonl,
    parquet,
    read,
    rows,
    text_files,
    texts,
)
from make.tasks import Ran, run_here, run_step, task

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.results import Outcome
from ixt_workloads.contract.settings import DataFormat, ExistingFeedback
from ixt_workloads.contract.versions import write_task
from ixt_workloads.steps.inventory.sources import Raw
from ixt_workloads.steps.inventory.spill import PLACES, Spill, hashes_of, shard_count
from ixt_workloads.store import Artifact

TEXTS = texts(1300)


def laid_out(storage: Path, *datasets: Any, **config: Any) -> Artifact:
    return artifact(storage, run_here(inventory_task(storage, *datasets, **config)).key)


def ran(task: Task, folder: Path, **options: Any) -> Ran:
    done = run_step(task, folder, **options)
    assert done.code == 0, done.log
    return done


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("plain")
    return laid_out(folder / "storage", dataset(jsonl(folder / "corpus.jsonl", rows(TEXTS))))


# --- What is committed ---


def test_documents_come_in_the_order_of_their_contents(tmp_path: Path) -> None:
    job = inventory_task(tmp_path / "storage", dataset(jsonl(tmp_path / "corpus.jsonl", rows(TEXTS))))
    done = ran(job, tmp_path / "run")
    assert (done.result.outcome, done.result.message) == (
        Outcome.COMMITTED,
        "1,170 documents, 130 more held out, 0 duplicates",
    )
    found = artifact(tmp_path / "storage", done.result.key)
    documents = read(found)
    assert found.paths == (
        *(f"docs-0000{number}.parquet" for number in range(3)),
        "holdout.parquet",
    )
    assert list(documents[0]) == ["id", "source", "text", "messages", "sample", "score", "critique"]
    for row in documents:
        hashes = hashes_of(row["text"])
        assert (row["id"], row["sample"], row["source"]) == (hashes.id, hashes.sample, "corpus")
    order = [hashes_of(row["text"]).order for row in documents]
    assert order == sorted(order)
    assert found.summary == {
        "documents": 1170,
        "holdout": 130,
        "bytes": sum(len(row["text"]) for row in documents),
        "duplicates": 0,
        "sources": {"corpus": 1170},
        "shards": 3,
        "dropped": {},
        "chat": False,
    }


LAYOUTS = {
    "gz": lambda folder: jsonl(folder / "corpus.jsonl.gz", rows(TEXTS)),
    "zst": lambda folder: jsonl(folder / "corpus.ndjson.zst", rows(TEXTS)),
    "backwards with other fields": lambda folder: jsonl(
        folder / "a.jsonl", [{"n": 1, "text": text, "text2": "x"} for text in reversed(TEXTS)]
    ),
    "parquet": lambda folder: parquet(folder / "corpus.parquet", rows(TEXTS)),
    "gzip under another name": lambda folder: jsonl(folder / "c.jsonl.gz", rows(TEXTS)).rename(
        folder / "c.jsonl"
    ),
    "plain under a name of gzip": lambda folder: jsonl(folder / "c.jsonl", rows(TEXTS)).rename(
        folder / "c.jsonl.gz"
    ),
    "an array": lambda folder: json_array(folder / "c.json", rows(TEXTS)),
    "csv": lambda folder: csv_file(folder / "c.csv", [{"n": "a,b\nc", "text": text} for text in TEXTS]),
    "csv.gz": lambda folder: csv_file(folder / "c.csv.gz", rows(TEXTS)),
    "arrow": lambda folder: arrow(folder / "c.arrow", rows(TEXTS)),
    "arrow stream": lambda folder: saved_to_disk(folder / "corpus"),
    "a folder of texts": lambda folder: text_files(folder / "corpus", TEXTS),
    "many files": lambda folder: many_files(folder / "corpus"),
}


def json_array(path: Path, lines: list[Any]) -> Path:
    path.write_text(json.dumps(lines, indent=1))
    return path


def saved_to_disk(folder: Path) -> Path:
    arrow(folder / "data-00000-of-00001.arrow", rows(TEXTS), stream=True)
    (folder / "state.json").write_text('{"_split": "train"}')
    return folder


def many_files(folder: Path) -> Path:
    jsonl(folder / "z.jsonl", rows(TEXTS[:100]))
    jsonl(folder / "deep/er/b.jsonl.gz", ["", *rows(TEXTS[100:200]), "  "])
    parquet(folder / "B.PARQUET", rows(TEXTS[200:300]))
    text_files(folder / "elsewhere", TEXTS[300:350], ".md")
    other = folder.with_name("other")
    jsonl(other / "rest.jsonl.zst", rows(TEXTS[350:]))
    (folder / "linked").symlink_to(other)
    # None of these is read.
    jsonl(folder / ".hidden/x.jsonl", ["nonsense"])
    (folder / "README.md").write_text("# About these documents")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_and_formats_make_no_difference(layout: str, plain: Artifact, tmp_path: Path) -> None:
    job = inventory_task(tmp_path / "storage", dataset(LAYOUTS[layout](tmp_path)))
    done = ran(job, tmp_path / "run")
    assert (
        artifact(tmp_path / "storage", done.result.key).manifest.content_hash == plain.manifest.content_hash
    )


def test_a_format_that_is_named_takes_files_of_other_names(tmp_path: Path) -> None:
    jsonl(tmp_path / "data/a.json", rows(["from json"]))
    (tmp_path / "data/b.log").write_text("from a log")
    by_format = {
        DataFormat.JSONL: {"from json"},
        DataFormat.TEXT: {"from a log", '{"text": "from json"}\n'},
    }
    for form, wanted in by_format.items():
        found = laid_out(tmp_path / form, dataset(tmp_path / "data", format=form))
        assert {row["text"] for row in read(found)} == wanted


def test_the_text_may_have_another_name_and_a_byte_order_mark_is_not_part_of_it(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", [b"\xef\xbb\xbf" + json.dumps({"body": "one"}).encode()])
    (tmp_path / "b.txt").write_bytes("\ufefftwo".encode())
    data = dataset(first, "a", text_field="body"), dataset(tmp_path / "b.txt", "b")
    assert {row["text"] for row in read(laid_out(tmp_path / "storage", *data))} == {"one", "two"}


def test_spaces_in_a_path_are_written_as_in_any_uri(tmp_path: Path) -> None:
    jsonl(tmp_path / "my data/a.jsonl", rows(["one"]))
    assert laid_out(tmp_path / "storage", dataset(f"file://{tmp_path}/my%20data")).summary["documents"] == 1


@given(st.integers(0, 10**9), st.integers(0, 10**14))
def test_shards_stay_small_and_small_corpora_have_several(documents: int, size: int) -> None:
    shards = shard_count(documents, size)
    assert shards >= 1
    assert documents <= shards * 8192 and size <= shards * 64 * 2**20
    assert shards <= max(8, documents / 8192 + 1, size / (64 * 2**20) + 1)
    assert shards >= min(8, documents / 512)


documents_of = st.lists(
    st.tuples(st.text(min_size=1, max_size=5), st.integers(1, 250)), min_size=1, max_size=40
)


@given(documents_of, st.integers(1, 50), st.integers(0, 5), st.integers(1, 4000))
def test_what_comes_out_does_not_depend_on_how_memory_was_bounded(
    documents: list[tuple[str, int]], ranges: int, holdout: int, pending: int
) -> None:
    def spilled(ranges: int, pending: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
            patch.setattr("ixt_workloads.steps.inventory.spill.PENDING_BYTES", pending)
            spill = Spill(Path(folder), ranges, holdout)
            for text, weight in documents:
                spill.add(Raw("d", text, None, None, None), weight)
            files: dict[str, bytes] = {}
            summary = spill.write(files.__setitem__)
            assert not list(Path(folder).iterdir())
            return summary, files

    assert spilled(ranges, pending) == spilled(1, 2**30)


BOUNDED = """
import re, sys
from pathlib import Path
from make.tasks import run_here
from ixt_workloads.contract.versions import read_task
from ixt_workloads.steps.inventory import spill
spill.PENDING_BYTES = spill.RANGE_BYTES = spill.MAX_SHARD_BYTES = 4 * 2**20
run_here(read_task(Path(sys.argv[1]).read_bytes()))
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_memory_is_bounded_whatever_the_size(tmp_path: Path) -> None:
    """A corpus of 260 MB in less than that, of which Python and Arrow take a third."""
    filler = "".join(texts(1, words=(50_000, 50_000)))
    path = tmp_path / "corpus.jsonl"
    with path.open("w") as lines:
        lines.writelines(json.dumps({"text": f"{number} {filler}"}) + "\n" for number in range(1000))
    (tmp_path / "task.json").write_text(
        write_task(inventory_task(tmp_path / "s", dataset(path), holdout_documents=9))
    )
    command = [sys.executable, "-c", BOUNDED, str(tmp_path / "task.json")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < path.stat().st_size


# --- Sample, weights, duplicates, held-out documents ---


def test_the_sample_is_a_fair_share_and_larger_ones_hold_smaller_ones(plain: Artifact) -> None:
    places = sorted(row["sample"] for row in read(plain))
    assert places[0] >= 0 and places[-1] < PLACES
    for percent in (15, 40, 80):
        share = sum(place < percent * PLACES // 100 for place in places) / len(places)
        assert share == pytest.approx(percent / 100, abs=0.04)


def test_held_out_documents_are_never_trained_on(plain: Artifact, tmp_path: Path) -> None:
    held = {row["text"] for row in read(plain, "holdout")}
    assert not held & {row["text"] for row in read(plain)}
    again = jsonl(tmp_path / "again.jsonl", rows(TEXTS))
    more = jsonl(tmp_path / "more.jsonl", rows([*sorted(held), *texts(10, seed=1)]))
    data = dataset(again, "a"), dataset(more, "b", weight=200)
    found = laid_out(tmp_path / "storage", *data, holdout_documents=50)
    few = {row["text"] for row in read(found, "holdout")}
    assert len(few) == 50
    assert few <= held | set(texts(10, seed=1))
    assert not few & {row["text"] for row in read(found)}


@pytest.mark.parametrize(("documents", "wanted", "held"), [(9, 256, 0), (10, 256, 1), (99, 5, 5), (99, 0, 0)])
def test_at_most_a_tenth_of_the_documents_is_held_out(
    tmp_path: Path, documents: int, wanted: int, held: int
) -> None:
    """However often each of them is repeated."""
    data = dataset(jsonl(tmp_path / "c.jsonl", rows(TEXTS[:documents] * 3)))
    summary = laid_out(tmp_path / "storage", data, holdout_documents=wanted).summary
    assert (summary["holdout"], summary["documents"]) == (held, documents - held)
    assert summary["duplicates"] == 2 * documents


def test_duplicates_count_for_the_first_dataset_and_change_nothing_else(
    plain: Artifact, tmp_path: Path
) -> None:
    first = (
        jsonl(tmp_path / "first/a.jsonl", rows(TEXTS[:700])),
        jsonl(tmp_path / "first/b.jsonl", rows(TEXTS)),
    )
    again = jsonl(tmp_path / "again.jsonl", rows(TEXTS * 2))
    found = laid_out(tmp_path / "storage", dataset(first[0].parent), dataset(again, "again"))
    assert found.manifest.files == plain.manifest.files
    assert found.summary["duplicates"] == 700 + 2 * 1300
    assert found.summary["sources"] == {"corpus": 1170}


def test_half_the_weight_is_a_fixed_half_and_double_the_weight_is_every_document_twice(
    tmp_path: Path,
) -> None:
    path = jsonl(tmp_path / "c.jsonl", rows(TEXTS))

    def weighted(weight: int) -> Counter[str]:
        data = dataset(path, weight=weight)
        found = laid_out(tmp_path / f"storage-{weight}", data, holdout_documents=0)
        ids = [row["id"] for row in read(found)]
        assert len(set(ids)) == len(ids) == found.summary["documents"] == found.summary["sources"]["corpus"]
        return Counter(row["text"] for row in read(found))

    half, most, double, more = weighted(50), weighted(75), weighted(200), weighted(250)
    assert len(half) == pytest.approx(650, abs=60)
    assert half.keys() < most.keys()
    assert set(double.values()) == {2} and double.keys() == set(TEXTS)
    assert {text for text, count in more.items() if count == 3} == half.keys()


def test_copies_share_the_feedback_of_their_document(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    lines = [{"text": text, "score": place} for place, text in enumerate(TEXTS[:50])]
    data = dataset(jsonl(tmp_path / "c.jsonl", lines), weight=300)
    inventory = laid_out(storage, data, existing=ExistingFeedback(score_field="score"))
    ids = [row["id"] for row in read(inventory)]
    assert sorted(name.partition("-")[2] for name in ids[:3]) == ["", "1", "2"]
    job = task(AnnotateConfig(), storage, {"inventory": inventory.key})
    run_here(job)
    assert [row["id"] for row in read(artifact(storage, job.key), "feedback-")] == ids[::3]


# --- Feedback that the data bring, and conversations ---


def test_feedback_that_the_data_carry_is_kept_beside_the_document(tmp_path: Path) -> None:
    lines = [
        {"text": "good", "edu": 4.5, "why": "Clear."},
        {"text": "whole", "edu": 3, "why": None},
        {"text": "none"},
        {"text": "odd", "edu": float("nan"), "why": "Hm."},
        '{"text": "huge", "edu": 1' + 400 * "0" + "}",
    ]
    existing = ExistingFeedback(score_field="edu", critique_field="why")
    for path in (jsonl(tmp_path / "c.jsonl", lines), parquet(tmp_path / "c.parquet", lines[:4])):
        found = laid_out(tmp_path / path.suffix, dataset(path), existing=existing)
        feedback = {row["text"]: (row["score"], row["critique"]) for row in read(found)}
        feedback.pop("huge", None)
        assert feedback == {
            "good": (4.5, "Clear."), "whole": (3.0, None), "none": (None, None), "odd": (None, "Hm."),
        }  # fmt: skip


def test_bands_of_the_sample_nest(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    lines = [{"text": text, "score": 1} for text in TEXTS]
    data = dataset(jsonl(tmp_path / "c.jsonl", lines))
    inventory = laid_out(storage, data, existing=ExistingFeedback(score_field="score"))

    def band(start: int, end: int) -> set[str]:
        config = AnnotateConfig(from_percent=start, to_percent=end)
        job = task(config, storage, {"inventory": inventory.key})
        run_here(job)
        return {row["id"] for row in read(artifact(storage, job.key), "feedback-")}

    low, high, both, all_ = band(0, 15), band(15, 40), band(0, 40), band(0, 100)
    assert low and high and not low & high
    assert low | high == both
    assert all_ == {row["id"] for row in read(inventory)}


def test_conversations_are_kept_as_json_and_as_a_judge_reads_them(tmp_path: Path) -> None:
    turns = chat("1+1?", "2", system="Be brief.")
    lines = [{"turns": [{**turn, "weight": 1} for turn in turns]}, {"turns": chat("Hé?", "Ho.")}]
    for path in (jsonl(tmp_path / "c.jsonl", lines), parquet(tmp_path / "c.parquet", lines)):
        data = dataset(path, messages_field="turns")
        found = laid_out(tmp_path / path.suffix, data)
        assert found.summary["chat"]
        told = {row["text"]: json.loads(row["messages"])["messages"] for row in read(found)}
        assert told["System: Be brief.\n\nUser: 1+1?\n\nAssistant: 2"] == turns
        assert told["User: Hé?\n\nAssistant: Ho."] == chat("Hé?", "Ho.")
