"""Documents as they lie in files: jsonl (plain, gz, zst), parquet, folders of text. Streaming."""

import gzip
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.steps import DataFormat, Dataset, ExistingFeedback
from ixt_workloads.data.chat import as_text, checked
from ixt_workloads.data.locate import local_path, remote

MAX_TEXT_BYTES = 64 * 2**20
"""Longer documents are dropped: no model reads them, and one must not fill the memory."""
MAX_LINE_BYTES = 256 * 2**20

JSONL = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst")
PARQUET = (".parquet",)
TEXT = (".txt", ".md", ".rst", ".py", ".tex", ".html")


class SourceFile(NamedTuple):
    """One file of a dataset."""

    name: str
    """Path below the dataset's folder, or the file's own name."""
    path: Path
    format: DataFormat


class Raw(NamedTuple):
    """One document as it was found."""

    source: str
    text: str
    messages: str | None
    score: float | None
    critique: str | None


def files_of(dataset: Dataset) -> list[SourceFile]:
    """The files of a dataset, by name. Raises StepError when there are none of the format."""
    found = [
        SourceFile(name, path, form)
        for name, path in _paths(dataset)
        if (form := _format(dataset, name)) is not None
    ]
    if not found:
        wanted = (*JSONL, *PARQUET, *TEXT) if dataset.format is DataFormat.AUTO else (dataset.format.value,)
        raise StepError(
            Exit.NO_INPUT,
            f"dataset {dataset.name}: {dataset.uri} has no file to read ({', '.join(wanted)})",
            "check datasets[].uri, or set datasets[].format",
        )
    return found


def documents(
    dataset: Dataset, file: SourceFile, existing: ExistingFeedback | None, dropped: Counter[str]
) -> Iterator[Raw]:
    """The documents of a file. What is empty, too long or not UTF-8 is passed over and counted.

    Raises StepError naming the file and the line, or the row, of what is malformed.
    """
    reader = {DataFormat.JSONL: _jsonl, DataFormat.PARQUET: _parquet, DataFormat.TEXT: _text}[file.format]
    for place, row in reader(dataset, file, existing, dropped):
        try:
            raw = _document(dataset, existing, row)
        except ValueError as error:
            raise StepError(
                Exit.DATA, f"dataset {dataset.name}: {file.path}, {place}: {error}", _hint(dataset, row)
            ) from None
        reason = _unusable(raw)
        if reason:
            dropped[reason] += 1
        else:
            yield raw


def _paths(dataset: Dataset) -> Iterator[tuple[str, Path]]:
    if there := remote(dataset.uri):
        store, name = there
        names = [name] if name else [info.path for info in store.list("")]
        yield from ((path, store.open_local(path)) for path in names)
        return
    root = local_path(dataset.uri)
    if root.is_file():
        yield root.name, root
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path.relative_to(root).as_posix(), path


def _format(dataset: Dataset, name: str) -> DataFormat | None:
    lower = name.lower()
    if dataset.format is DataFormat.TEXT:
        return DataFormat.TEXT
    for form, endings in ((DataFormat.JSONL, JSONL), (DataFormat.PARQUET, PARQUET), (DataFormat.TEXT, TEXT)):
        if lower.endswith(endings):
            return form if dataset.format in (form, DataFormat.AUTO) else None
    if dataset.format is DataFormat.JSONL and lower.endswith((".json", ".json.gz", ".json.zst")):
        return DataFormat.JSONL
    return None


Rows = Iterator[tuple[str, dict[str, Any]]]


def _jsonl(
    dataset: Dataset, file: SourceFile, existing: ExistingFeedback | None, dropped: Counter[str]
) -> Rows:
    with _lines(file.path) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise StepError(
                    Exit.DATA, f"{file.path}, line {number}: longer than {MAX_LINE_BYTES >> 20} MiB",
                    "is this one document a line?",
                )  # fmt: skip
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except UnicodeDecodeError:
                dropped["notUtf8"] += 1
                continue
            except (ValueError, RecursionError) as error:
                raise StepError(
                    Exit.DATA,
                    f"dataset {dataset.name}: {file.path}, line {number}: malformed JSON: {error}",
                    "every line must be one JSON object; repair or remove the line",
                ) from None
            if not isinstance(value, dict):
                raise StepError(
                    Exit.DATA,
                    f"dataset {dataset.name}: {file.path}, line {number}: must be a JSON object, "
                    f"is {type(value).__name__}",
                    f'write lines like {{"{dataset.messages_field or dataset.text_field}": …}}',
                )
            yield f"line {number}", value


def _lines(path: Path) -> IO[bytes]:
    if path.name.endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.name.endswith(".zst"):
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), 1 << 20)
    return path.open("rb", buffering=1 << 20)


def _parquet(
    dataset: Dataset, file: SourceFile, existing: ExistingFeedback | None, dropped: Counter[str]
) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [dataset.messages_field or dataset.text_field]
    if existing:
        wanted += [name for name in (existing.score_field, existing.critique_field) if name]
    try:
        table = pq.ParquetFile(file.path)
    except (pa.ArrowInvalid, OSError) as error:
        raise StepError(
            Exit.DATA, f"dataset {dataset.name}: {file.path}: not a parquet file: {error}", "write it anew"
        ) from None
    missing = [name for name in wanted if name not in table.schema_arrow.names]
    if missing:
        raise StepError(
            Exit.DATA,
            f"dataset {dataset.name}: {file.path} has no column {missing[0]!r}",
            f"its columns are {', '.join(table.schema_arrow.names)}: name one of them in datasets[]",
        )
    number = 0
    for batch in table.iter_batches(batch_size=512, columns=wanted):
        for row in batch.to_pylist():
            number += 1
            yield f"row {number}", row


def _text(
    dataset: Dataset, file: SourceFile, existing: ExistingFeedback | None, dropped: Counter[str]
) -> Rows:
    if file.path.stat().st_size > MAX_TEXT_BYTES:
        dropped["tooLong"] += 1
        return
    try:
        yield "the file", {dataset.text_field: file.path.read_bytes().decode()}
    except UnicodeDecodeError:
        dropped["notUtf8"] += 1


def _document(dataset: Dataset, existing: ExistingFeedback | None, row: Mapping[str, Any]) -> Raw:
    """A row as a document. Raises ValueError saying which field is wrong."""
    field = dataset.messages_field or dataset.text_field
    if field not in row:
        raise ValueError(f"has no field {field!r}")
    messages = None
    if dataset.messages_field:
        try:
            turns = checked(row[field])
        except ValueError as error:
            raise ValueError(f"field {field!r} {error}") from None
        messages, text = json.dumps(turns, ensure_ascii=False), as_text(turns)
    else:
        text = row[field] if row[field] is not None else ""
        if not isinstance(text, str):
            raise ValueError(f"field {field!r} must be a text, is {type(text).__name__}")
    score, critique = None, None
    if existing:
        score = row.get(existing.score_field)
        if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
            raise ValueError(f"field {existing.score_field!r} must be a number, is {type(score).__name__}")
        if score is not None and not math.isfinite(score):
            score = None
        critique = row.get(existing.critique_field) if existing.critique_field else None
        if critique is not None and not isinstance(critique, str):
            raise ValueError(f"field {existing.critique_field!r} must be a text")
    return Raw(dataset.name, text, messages, None if score is None else float(score), critique)


def _unusable(raw: Raw) -> str | None:
    if not raw.text.strip():
        return "empty"
    try:
        size = len(raw.text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        return "notUtf8"
    return "tooLong" if size > MAX_TEXT_BYTES else None


def _hint(dataset: Dataset, row: Mapping[str, Any]) -> str:
    fields = ", ".join(map(repr, list(row)[:10])) or "none"
    name = "messagesField" if dataset.messages_field else "textField"
    return f"its fields are {fields}: set {name} of dataset {dataset.name}, or repair the data"
