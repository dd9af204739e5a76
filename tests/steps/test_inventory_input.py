"""Data that Inventory cannot use: dropped by rule and counted, or refused in one message that says where."""

import errno
import json
import os
import resource
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
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
from make.tasks import run_here, run_step

from ixt_workloads.contract.exits import Exit, Fault, StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.results import Outcome
from ixt_workloads.contract.settings import DataFormat, Dataset, ExistingFeedback
from ixt_workloads.steps.inventory import rows as reading
from ixt_workloads.store import ArtifactWriter
from ixt_workloads.store.errors import StoreFull

TEXTS = texts(20)
GOOD = rows(TEXTS)


def summary_of(job: Task) -> dict[str, Any]:
    return artifact(Path(job.storage.removeprefix("file://")), run_here(job).key).summary


# --- Dropped by rule, and counted ---


def test_documents_that_nobody_can_read_are_dropped_and_counted(tmp_path: Path) -> None:
    lines = [
        *GOOD,
        {"text": ""},
        {"text": " \n"},
        {"text": None},
        b'{"text": "caf\xe9"}',
        '{"text": "half a pair: \\ud800"}',
        {"text": "x" * (reading.MAX_TEXT_BYTES + 1)},
        {"text": "é" * (reading.MAX_TEXT_BYTES // 2) + "e"},
        {"text": "long " + "x" * 10 * 2**20},
    ]
    storage = tmp_path / "storage"
    done = run_step(inventory_task(storage, dataset(jsonl(tmp_path / "c.jsonl", lines))), tmp_path / "run")
    assert done.code == 0, done.log
    assert done.result.message == (
        "19 documents, 2 more held out, 0 duplicates, 7 dropped (3 empty, 2 notUtf8, 2 tooLong)"
    )
    found = artifact(storage, done.result.key)
    assert found.summary["dropped"] == {"empty": 3, "notUtf8": 2, "tooLong": 2}
    kept = {row["text"] for row in [*read(found), *read(found, "holdout")]}
    assert kept == {*TEXTS, lines[-1]["text"]}


def test_texts_in_files_are_dropped_by_the_same_rules(tmp_path: Path) -> None:
    folder = text_files(tmp_path / "texts", TEXTS)
    (folder / "empty.txt").touch()
    (folder / "latin.txt").write_bytes("café".encode("latin-1"))
    (folder / "long.txt").write_bytes(b"x" * (reading.MAX_TEXT_BYTES + 1))
    summary = summary_of(inventory_task(tmp_path / "storage", dataset(folder)))
    assert summary["dropped"] == {"empty": 1, "notUtf8": 1, "tooLong": 1}
    assert summary["documents"] + summary["holdout"] == 20


@pytest.mark.parametrize("field", ["text", "messages"])
def test_bytes_that_are_not_utf8_cost_a_parquet_file_only_their_rows(tmp_path: Path, field: str) -> None:
    wrap = {"text": str, "messages": lambda text: chat("question", text)}[field]
    path = parquet(tmp_path / "c.parquet", [{field: wrap(text)} for text in TEXTS], plain=True)
    assert path.read_bytes().count(b"0-7:") == 1
    path.write_bytes(path.read_bytes().replace(b"0-7:", b"\xff-7:"))
    data = dataset(path, messages_field="messages" if field == "messages" else None)
    summary = summary_of(inventory_task(tmp_path / "storage", data))
    assert summary["dropped"] == {"notUtf8": 1}
    assert summary["documents"] + summary["holdout"] == 19


def test_a_critique_that_is_no_text_costs_its_document(tmp_path: Path) -> None:
    lines = [{"text": text, "s": 1, "c": "fine"} for text in TEXTS]
    path = jsonl(tmp_path / "c.jsonl", [*lines, '{"text": "more", "s": 1, "c": "\\udc00"}'])
    job = inventory_task(
        tmp_path / "storage", dataset(path), existing=ExistingFeedback(score_field="s", critique_field="c")
    )
    assert summary_of(job)["dropped"] == {"notUtf8": 1}


def test_files_that_are_left_out_are_told(tmp_path: Path) -> None:
    folder = made(tmp_path / "d")
    jsonl(folder / "a.jsonl", rows(["one"]))
    for name in ("b.jsonl.xz", "c.jsonl.zstd", "e.json", "f.csv", "g.arrow", "h.jl", "README.md"):
        (folder / name).touch()
    done = run_here(inventory_task(tmp_path / "storage", dataset(folder)))
    assert done.message == (
        "1 documents, 0 more held out, 0 duplicates; 4 files of corpus are of no known format and left out "
        "(b.jsonl.xz, c.jsonl.zstd, e.json, h.jl)"
    )


def test_names_that_are_not_utf8_are_told_in_ascii(tmp_path: Path) -> None:
    folder = made(tmp_path / "d")
    jsonl(folder / "a.jsonl", rows(TEXTS))
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jsonl")).write_text('{"text": "x"}\n{')
    done = run_step(inventory_task(tmp_path / "storage", dataset(folder)), tmp_path / "run")
    assert done.code == Exit.DATA, done.log
    assert "/d/caf\\xe9.jsonl, line 2: malformed JSON" in done.result.message


def test_scores_may_be_decimals_or_texts_of_csv_or_missing_in_a_file_and_of_any_finite_size(
    tmp_path: Path,
) -> None:
    folder = made(tmp_path / "d")
    csv_file(folder / "a.csv", [{"text": "csv", "s": "2.5"}, {"text": "none", "s": ""}])
    parquet(folder / "b.parquet", [{"text": "decimal", "s": Decimal("3.25")}])
    parquet(folder / "c.parquet", [{"text": "other schema", "n": 1}])
    jsonl(folder / "d.jsonl", [{"text": "huge", "s": 1e308}, {"text": "tiny", "s": -1e308}])
    job = inventory_task(tmp_path / "storage", dataset(folder), existing=ExistingFeedback(score_field="s"))
    found = read(artifact(tmp_path / "storage", run_here(job).key))
    assert {row["text"]: row["score"] for row in found} == {
        "csv": 2.5, "none": None, "decimal": 3.25, "other schema": None, "huge": 1e308, "tiny": -1e308
    }  # fmt: skip


# --- Refused ---


def torn(path: Path, share: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damaged(path: Path) -> Path:
    """A byte in 16 is another, but for what stands at the ends."""
    data = bytearray(path.read_bytes())
    data[100 : len(data) // 2 : 16] = bytes(255 for _ in data[100 : len(data) // 2 : 16])
    path.write_bytes(bytes(data))
    return path


LONG = rows(texts(3000, words=(30, 60)))
SCORED = ExistingFeedback(score_field="score")
WITH_CRITIQUE = ExistingFeedback(score_field="score", critique_field="why")

Case = tuple[Callable[[Path], Dataset], dict[str, Any], Exit, Sequence[str], str]

REFUSED: dict[str, Case] = {
    "a dataset that is not there": (
        lambda folder: dataset(folder / "gone.jsonl"), {}, Exit.NO_INPUT,
        ["dataset corpus: file://", "/gone.jsonl", "does not exist"], "check the URI",
    ),
    "a volume that is not mounted": (
        lambda _: dataset("pvc://claim/data"), {}, Exit.CONFIG,
        ["pvc://claim/data needs IXT_PVC_ROOT"], "run inside the cluster",
    ),
    "an empty folder": (
        lambda folder: dataset(made(folder / "data")), {}, Exit.NO_INPUT,
        ["dataset corpus:", "/data has no file to read", ".jsonl.zst"], "datasets[].uri",
    ),
    "a folder of something else": (
        lambda folder: dataset(text_files(folder / "data", TEXTS), format=DataFormat.PARQUET),
        {}, Exit.NO_INPUT, ["has no file to read (.parquet)"], "datasets[].format",
    ),
    "objects in the lines of a .json": (
        lambda folder: dataset(jsonl(made(folder / "data") / "train.json", GOOD).parent),
        {}, Exit.NO_INPUT, ["has no file to read (", "; train.json is no array of documents"],
        "datasets[].format to Jsonl",
    ),
    "a link to nowhere": (
        lambda folder: dataset(linked(made(folder / "data") / "a.jsonl", folder / "gone")),
        {}, Exit.NO_INPUT, ["/data/a.jsonl cannot be read: No such file"], "link to nowhere",
    ),
    "malformed JSON": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [*GOOD[:2], "", '{"text": "open', *GOOD])),
        {}, Exit.DATA, ["dataset corpus:", "/c.jsonl, line 4: malformed JSON: Unterminated", "at column 10"],
        "one JSON object",
    ),
    "JSON that never ends": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [*GOOD, "[" * 100_000])),
        {}, Exit.DATA, ["/c.jsonl, line 21: malformed JSON: nested too deeply"], "one JSON object",
    ),
    "a line that is no object": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", ['["a", "list"]'])),
        {}, Exit.DATA, ["line 1: must be a JSON object, is list"], '{"text": …}',
    ),
    "all in one line": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", ["x" * (reading.MAX_LINE_BYTES + 1)])),
        {}, Exit.DATA, ["line 1: longer than 64 MiB"], "one document a line",
    ),
    "a torn gz": (
        lambda folder: dataset(torn(jsonl(folder / "c.jsonl.gz", LONG))),
        {}, Exit.DATA, ["dataset corpus:", "/c.jsonl.gz, after line 1", "cannot be read"], "copy it again",
    ),
    "a torn zst": (
        lambda folder: dataset(torn(jsonl(folder / "c.jsonl.zst", LONG))),
        {}, Exit.DATA, ["/c.jsonl.zst", "cannot be read"], "copy it again",
    ),
    "a damaged gz": (
        lambda folder: dataset(damaged(jsonl(folder / "c.jsonl.gz", LONG))),
        {}, Exit.DATA, ["/c.jsonl.gz"], "",
    ),
    "a torn parquet file": (
        lambda folder: dataset(torn(parquet(folder / "c.parquet", LONG))),
        {}, Exit.DATA, ["/c.parquet cannot be read", "Parquet"], "copy it again",
    ),
    "a damaged parquet file": (
        lambda folder: dataset(damaged(parquet(folder / "c.parquet", LONG))),
        {}, Exit.DATA, ["/c.parquet"], "",
    ),
    "no such column": (
        lambda folder: dataset(parquet(folder / "c.parquet", [{"body": "x", "n": 1}])),
        {}, Exit.DATA, ["/c.parquet has no column 'text'"], "its columns are body, n",
    ),
    "no such field": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [*GOOD, {"txt": "x", "n": 1}])),
        {}, Exit.DATA, ["/c.jsonl, line 21: has no field 'text'"], "its fields are 'txt', 'n'",
    ),
    "a text that is a number": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [*GOOD, {"text": 3}])),
        {}, Exit.DATA, ["line 21: field 'text' must be a text, is int"], "repair",
    ),
    "a column of numbers": (
        lambda folder: dataset(parquet(folder / "c.parquet", [{"text": 3}])),
        {}, Exit.DATA, ["/c.parquet, row 1: field 'text' must be a text, is int"], "repair",
    ),
    "a score that is a text": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [{"text": "a", "score": "4"}])),
        {"existing": SCORED}, Exit.DATA, ["line 1: field 'score' must be a number, is str"], "repair",
    ),
    "a score that is true": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [{"text": "a", "score": True}])),
        {"existing": SCORED}, Exit.DATA, ["line 1: field 'score' must be a number, is bool"], "repair",
    ),
    "a critique that is a list": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [{"text": "a", "score": 1, "why": ["b"]}])),
        {"existing": WITH_CRITIQUE}, Exit.DATA, ["field 'why' must be a text, is list"], "repair",
    ),
    "UTF-16": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", ["\ufeff".encode("utf-16-le")])), {}, Exit.DATA,
        ["dataset corpus:", "/c.jsonl is UTF-16, not UTF-8"], "iconv -f UTF-16 -t UTF-8",
    ),
    "UTF-16 without its mark": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", ['{"text": "x"}'.encode("utf-16-be")])),
        {}, Exit.DATA, ["/c.jsonl is UTF-16 or UTF-32, not UTF-8"], "iconv",
    ),
    "UTF-16 in a gz": (
        lambda folder: dataset(jsonl(folder / "c.jsonl.gz", ['{"text": "x"}'.encode("utf-16")])),
        {}, Exit.DATA, ["/c.jsonl.gz is UTF-16, not UTF-8"], "iconv",
    ),
    "xz under another name": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [b"\xfd7zXZ\x00rest"])), {}, Exit.DATA,
        ["/c.jsonl is packed with xz"], "pack it with gzip or zstd",
    ),
    "parquet under another name": (
        lambda folder: dataset(parquet(folder / "c.parquet", GOOD).rename(folder / "c.jsonl")), {}, Exit.DATA,
        ["/c.jsonl is a parquet file"], "name a file by what it is",
    ),
    "a pipe": (
        lambda folder: dataset(piped(made(folder / "data") / "a.jsonl")), {}, Exit.NO_INPUT,
        ["/data/a.jsonl is no file but a pipe, socket or device"], "leave it out",
    ),
    "a link to a folder above": (
        lambda folder: dataset(linked(made(folder / "data") / "more", folder / "data")), {}, Exit.NO_INPUT,
        ["/data/more is a link to a folder that it lies in"], "remove the link",
    ),
    "malformed CSV": (
        lambda folder: dataset(lines(folder / "c.csv", 'text', 'a', '"b" c')), {}, Exit.DATA,
        ["/c.csv, line 2: malformed CSV: ',' expected after '\"'"], "repair the line",
    ),
    "a CSV whose texts have commas that are not quoted": (
        lambda folder: dataset(lines(folder / "c.csv", "text", "a", "b, c")), {}, Exit.DATA,
        ["/c.csv, line 3: has more columns than the 1 that the first line names"], "texts with commas",
    ),
    "a CSV with two columns of the name": (
        lambda folder: dataset(lines(folder / "c.csv", "text,text", "a,b")), {}, Exit.DATA,
        ["/c.csv has several columns 'text'"], "rename all but one",
    ),
    "CSV without the column": (
        lambda folder: dataset(lines(folder / "c.csv", "body,n", "x,1")), {}, Exit.DATA,
        ["/c.csv has no column 'text'"], "its columns are body, n",
    ),
    "a score in CSV that is no number": (
        lambda folder: dataset(lines(folder / "c.csv", "text,score", "x,good")),
        {"existing": SCORED}, Exit.DATA, ["/c.csv, line 2: field 'score' must be a number, is 'good'"],
        "repair",
    ),
    "an array of something else": (
        lambda folder: dataset(lines(folder / "c.json", "[1]")), {}, Exit.DATA,
        ["/c.json, item 1: must be a JSON object, is int"], "",
    ),
    "a torn arrow file": (
        lambda folder: dataset(torn(arrow(folder / "c.arrow", LONG))),
        {}, Exit.DATA, ["/c.arrow"], "copy it again",
    ),
    "scores under another name": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [{"text": text, "scor": 1} for text in TEXTS])),
        {"existing": SCORED}, Exit.DATA,
        ["none of the 20 documents of corpus has anything in the field 'score'"], "annotate.from.scoreField",
    ),
    "critiques under another name": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [{"text": text, "score": 1} for text in TEXTS])),
        {"existing": WITH_CRITIQUE}, Exit.DATA, ["in the field 'why'"], "annotate.from.critiqueField",
    ),
    "nothing but empty documents": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", rows(["", " "]))),
        {}, Exit.DATA, ["no usable document in corpus: 2 empty"], "check textField",
    ),
    "hardly anything that is UTF-8": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", [*GOOD[:3], *[b'{"text": "\xff"}'] * 4])),
        {}, Exit.DATA, ["4 of 7 documents of corpus cannot be used: 4 notUtf8"], "encoding",
    ),
}  # fmt: skip


def piped(path: Path) -> Path:
    os.mkfifo(path)
    return path.parent


def lines(path: Path, *found: str) -> Path:
    path.write_text("\n".join(found) + "\n")
    return path


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def linked(link: Path, target: Path) -> Path:
    link.symlink_to(target)
    return link.parent


def refused(job: Task, code: Exit, fragments: Sequence[str], hint: str) -> None:
    with pytest.raises(StepError) as caught:
        run_here(job)
    assert caught.value.code == code
    for fragment in fragments:
        assert fragment in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint and caught.value.hint
    assert not list(Path(job.storage.removeprefix("file://")).glob("artifacts/**/*"))


@pytest.mark.parametrize("case", REFUSED)
def test_refused_is(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IXT_PVC_ROOT", raising=False)
    make, config, code, fragments, hint = REFUSED[case]
    refused(inventory_task(tmp_path / "storage", make(tmp_path), **config), code, fragments, hint)


@pytest.mark.parametrize("case", ["a dataset that is not there", "malformed JSON", "a damaged parquet file"])
def test_a_refusal_is_one_line_and_an_exit_code(case: str, tmp_path: Path) -> None:
    make, config, code, fragments, hint = REFUSED[case]
    done = run_step(inventory_task(tmp_path / "storage", make(tmp_path), **config), tmp_path / "run")
    assert (done.code, done.result.outcome, done.result.fault) == (code, Outcome.FAILED, Fault.USER)
    assert all(fragment in done.result.message for fragment in fragments) and hint in done.result.hint
    assert len(done.log.splitlines()) == 1


TURNS: dict[str, tuple[Any, str]] = {
    "text": ("Hello", "must be a list of turns that is not empty"),
    "nothing": ([], "must be a list of turns that is not empty"),
    "no object": (["Hello"], "turn 1 must be an object with role and content"),
    "role": ([{"role": "human", "content": "x"}], "turn 1 has role 'human', must be one of system, user"),
    "content": (
        [*chat("a", "b"), {"role": "user", "content": None}],
        "turn 3 has no content that is a text",
    ),
    "weight": ([*chat("a", "b")[:1], {"role": "assistant", "content": "b", "weight": 0.5}],
               "turn 2 has weight 0.5, must be 0 or 1"),
    "calls": ([*chat("a", "b")[:1], {"role": "assistant", "tool_calls": [{"id": "c1"}]}],
              "turn 2 has tool_calls that name no function"),
}  # fmt: skip


@pytest.mark.parametrize("case", TURNS)
def test_a_malformed_conversation_is_named(case: str, tmp_path: Path) -> None:
    turns, problem = TURNS[case]
    path = jsonl(tmp_path / "c.jsonl", [{"messages": chat("a", "b")}, {"messages": turns}])
    job = inventory_task(tmp_path / "storage", dataset(path, messages_field="messages"))
    refused(job, Exit.DATA, [f"/c.jsonl, line 2: field 'messages' {problem}"], "repair the data")


def test_conversations_that_teach_nothing_are_dropped_and_counted(tmp_path: Path) -> None:
    image = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    call = {"function": {"name": "f", "arguments": "{torn"}}
    talks = [
        *(chat(text, "b") for text in TEXTS),
        chat("a", "b")[:1],
        chat("a", "b")[1:],
        [*chat("a", "b")[:1], {"role": "assistant", "content": "b", "weight": 0}],
        [*chat("a", "b")[:1], {"role": "assistant", "content": None}],
        [{"role": "user", "content": image}, *chat("a", "b")[1:]],
        [*chat("a", "b")[:1], {"role": "assistant", "content": "", "tool_calls": [call]}],
    ]
    path = jsonl(tmp_path / "c.jsonl", [{"messages": talk} for talk in talks])
    summary = summary_of(inventory_task(tmp_path / "storage", dataset(path, messages_field="messages")))
    assert summary["dropped"] == {
        "noAnswer": 2, "nothingAsked": 1, "emptyAnswer": 1, "notText": 1, "toolCallNotJson": 1
    }  # fmt: skip
    assert summary["documents"] + summary["holdout"] == 20


# --- Full disks, and being stopped ---


def files_of(storage: Path, data: Dataset) -> object:
    """What the next attempt leaves."""
    done = run_here(inventory_task(storage, data, attempt=1))
    return artifact(storage, done.key).manifest.files


def test_calls_of_columns_have_the_arguments_that_were_given_and_one_call_is_a_call(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"role": "user", "content": "q", "tool_calls": None}

    def turns(**arguments: int | None) -> list[dict[str, Any]]:
        call = {"function": {"name": "f", "arguments": arguments}}
        return [asked, {"role": "assistant", "content": None, "tool_calls": [call]}]

    folder = made(tmp_path / "data")
    pq.write_table(pa.table({"messages": [turns(a=1, b=None), turns(a=None, b=2)]}), folder / "a.parquet")
    old = {"role": "assistant", "content": "so:", "function_call": {"name": "f", "arguments": '{"c": null}'}}
    jsonl(folder / "b.jsonl", [{"messages": [{"role": "user", "content": "q"}, old]}])
    done = run_here(inventory_task(tmp_path / "storage", dataset(folder, messages_field="messages")))
    found = read(artifact(tmp_path / "storage", done.key))
    answers = [json.loads(row["messages"])["messages"][1] for row in found]
    calls = [turn["tool_calls"][0]["function"]["arguments"] for turn in answers]
    assert sorted(calls, key=str) == [{"a": 1}, {"b": 2}, {"c": None}]


def test_a_full_disk_for_temporary_files_is_named(tmp_path: Path) -> None:
    job = inventory_task(tmp_path / "storage", dataset(jsonl(tmp_path / "c.jsonl", LONG)))
    env = {"TMPDIR": str(made(tmp_path / "tmp"))}
    done = run_step(job, tmp_path / "run", env=env, limits={resource.RLIMIT_FSIZE: 2**18}, forked=False)
    assert done.code == Exit.STORAGE_FULL, done.log
    assert f"no space for temporary files in {tmp_path}/tmp (TMPDIR)" in done.result.message
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "storage/artifacts").exists()
    assert run_step(job, tmp_path / "run", env=env).code == 0


def test_a_full_storage_commits_nothing_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "storage"
    data = dataset(jsonl(tmp_path / "c.jsonl", LONG))
    link, links = os.link, []

    def full(source: str, target: str, **where: Any) -> None:
        links.append(target)
        if len(links) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(source, target, **where)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(StoreFull, match=r"no space for file://.*/docs-"):
            run_here(inventory_task(storage, data))
    assert not list(storage.rglob("manifest.json"))
    done = run_here(inventory_task(storage, data, attempt=1))
    other = run_here(inventory_task(tmp_path / "other", data))
    assert (
        artifact(storage, done.key).manifest.files == artifact(tmp_path / "other", other.key).manifest.files
    )


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_stopped_at_any_file_the_next_attempt_completes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    storage = tmp_path / "storage"
    data = dataset(jsonl(tmp_path / "c.jsonl", LONG))
    add, added = ArtifactWriter.add, []

    def stopping(self: ArtifactWriter, path: str, content: bytes | Path) -> bool:
        if len(added) == after:
            raise KeyboardInterrupt
        added.append(path)
        return add(self, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(ArtifactWriter, "add", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_here(inventory_task(storage, data))
    assert not list(storage.rglob("manifest.json"))
    done = run_here(inventory_task(storage, data, attempt=1))
    other = run_here(inventory_task(tmp_path / "other", data))
    assert (
        artifact(storage, done.key).manifest.files == artifact(tmp_path / "other", other.key).manifest.files
    )
