"""Data that Inventory cannot use: dropped by rule and counted, or refused in one message that says where."""

import errno
import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from make.corpora import (
    artifact,
    chat,
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
from ixt_workloads.steps.inventory import sources
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
        {"text": "x" * (sources.MAX_TEXT_BYTES + 1)},
        {"text": "é" * (sources.MAX_TEXT_BYTES // 2) + "e"},
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
    (folder / "long.txt").write_bytes(b"x" * (sources.MAX_TEXT_BYTES + 1))
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
        lambda folder: dataset(jsonl(folder / "c.jsonl", ["x" * (sources.MAX_LINE_BYTES + 1)])),
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
    "what is called gz and is not": (
        lambda folder: dataset(jsonl(folder / "c.jsonl", GOOD).rename(folder / "d.jsonl.gz")),
        {}, Exit.DATA, ["/d.jsonl.gz cannot be read: Not a gzipped file"], "copy it again",
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
    "no answer": (chat("a", "b")[:1], "has no turn of the assistant, so nothing to learn"),
    "no question": (chat("a", "b")[1:], "begins with the assistant: nothing was asked"),
}


@pytest.mark.parametrize("case", TURNS)
def test_a_malformed_conversation_is_named(case: str, tmp_path: Path) -> None:
    turns, problem = TURNS[case]
    path = jsonl(tmp_path / "c.jsonl", [{"messages": chat("a", "b")}, {"messages": turns}])
    job = inventory_task(tmp_path / "storage", dataset(path, messages_field="messages"))
    refused(job, Exit.DATA, [f"/c.jsonl, line 2: field 'messages' {problem}"], "repair the data")


# --- Full disks, and being stopped ---


def files_of(storage: Path, data: Dataset) -> object:
    """What the next attempt leaves."""
    done = run_here(inventory_task(storage, data, attempt=1))
    return artifact(storage, done.key).manifest.files


def test_a_full_disk_for_temporary_files_is_named(tmp_path: Path) -> None:
    job = inventory_task(tmp_path / "storage", dataset(jsonl(tmp_path / "c.jsonl", LONG)))
    env = {"TMPDIR": str(made(tmp_path / "tmp"))}
    done = run_step(job, tmp_path / "run", env=env, limits={resource.RLIMIT_FSIZE: 2**18})
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

    def full(source: Path, target: Path) -> None:
        links.append(target)
        if len(links) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(source, target)

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
