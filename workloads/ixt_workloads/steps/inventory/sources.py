"""Reads documents one by one from jsonl (plain, gz, zst), parquet, and folders of text."""

import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import DataFormat, Dataset, ExistingFeedback
from ixt_workloads.data.chat import as_text, checked
from ixt_workloads.data.lines import parsed
from ixt_workloads.data.locate import local_data, remote, unreadable

MAX_TEXT_BYTES = 16 * 2**20
"""Longer documents are dropped: a tokenizer needs a hundred times as much memory for one."""
MAX_LINE_BYTES = 64 * 2**20

JSONL = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst")
PARQUET = (".parquet",)
TEXT = (".txt", ".md", ".rst", ".py", ".tex", ".html")
CARD = "readme.md"
"""A file at the top of a dataset that describes it, as on the Hugging Face hub: no document."""

_BATCH_BYTES = 8 * 2**20
"""Bytes of a parquet file that are decoded at a time, about."""


class SourceFile(NamedTuple):
    """One file of a dataset."""

    name: str
    """Path below the dataset's folder, or the file's own name."""
    path: Path
    format: DataFormat

    @property
    def most_bytes(self) -> int:
        """Bytes that it may have when it is read: text is hardly ever compressed more than 20 times."""
        packed = self.format is DataFormat.PARQUET or self.name.lower().endswith((".gz", ".zst"))
        return self.path.stat().st_size * (20 if packed else 1)


class Raw(NamedTuple):
    """One document as it was found."""

    source: str
    text: str
    messages: str | None
    score: float | None
    critique: str | None


Rows = Iterator[tuple[str, dict[str, Any]]]
"""Each with the place that a message names it by."""


def files_of(dataset: Dataset) -> list[SourceFile]:
    """The files of a dataset, by name. Raises StepError when there are none of the format."""
    try:
        found = list(_files(dataset))
    except StepError as error:
        raise StepError(error.code, f"dataset {dataset.name}: {error.message}", error.hint) from None
    except OSError as error:
        raise unreadable(f"dataset {dataset.name}: {error.filename or dataset.uri}", error) from None
    if not found:
        endings = {DataFormat.JSONL: JSONL, DataFormat.PARQUET: PARQUET}
        wanted = endings.get(dataset.format, (*JSONL, *PARQUET, *TEXT))
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
    import pyarrow as pa

    named = f"dataset {dataset.name}: {file.path}"
    place = ""
    try:
        for place, row in _rows(dataset, file, existing, dropped):
            try:
                raw = _document(dataset, existing, row)
            except ValueError as error:
                raise StepError(Exit.DATA, f"{named}, {place}: {error}", _hint(row)) from None
            reason = _unusable(raw)
            if reason:
                dropped[reason] += 1
            else:
                yield raw
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise unreadable(f"{named}, after {place}," if place else named, error) from None


def _files(dataset: Dataset) -> Iterator[SourceFile]:
    if there := remote(dataset.uri, dataset.credentials_secret_ref):
        store, names = there
        for name in names:
            if not name.startswith(".") and "/." not in name and (form := _format(dataset, name)):
                yield SourceFile(name, store.open_local(name), form)
        return
    root = local_data(dataset.uri, dataset.credentials_secret_ref)
    for path in _below(root) if root.is_dir() else [root]:
        name = path.relative_to(root).as_posix() if path != root else root.name
        if form := _format(dataset, name):
            yield SourceFile(name, path, form)


def _below(folder: Path) -> Iterator[Path]:
    """Files in a folder and in those below it, links followed, hidden ones left out."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _below(path)
        else:
            yield path


def _format(dataset: Dataset, name: str) -> DataFormat | None:
    """How a file is read; None for one that is not part of the dataset."""
    lower = name.lower()
    match dataset.format:
        case DataFormat.TEXT:
            return DataFormat.TEXT
        case DataFormat.JSONL:
            more = (".json", ".json.gz", ".json.zst")
            return DataFormat.JSONL if lower.endswith((*JSONL, *more)) else None
        case DataFormat.PARQUET:
            return DataFormat.PARQUET if lower.endswith(PARQUET) else None
    for form, endings in ((DataFormat.JSONL, JSONL), (DataFormat.PARQUET, PARQUET), (DataFormat.TEXT, TEXT)):
        if lower.endswith(endings) and lower != CARD:
            return form
    return None


def _rows(
    dataset: Dataset, file: SourceFile, existing: ExistingFeedback | None, dropped: Counter[str]
) -> Rows:
    match file.format:
        case DataFormat.PARQUET:
            return _parquet(dataset, file, existing, dropped)
        case DataFormat.TEXT:
            return _text(dataset, file, dropped)
    return _jsonl(dataset, file, dropped)


def _jsonl(dataset: Dataset, file: SourceFile, dropped: Counter[str]) -> Rows:
    def malformed(problem: str, hint: str) -> StepError:
        return StepError(Exit.DATA, f"dataset {dataset.name}: {file.path}, line {number}: {problem}", hint)

    example = f'{{"{dataset.messages_field or dataset.text_field}": …}}'
    with _lines(file.path) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise malformed(f"longer than {MAX_LINE_BYTES >> 20} MiB", "is this one document a line?")
            if not line.strip():
                continue
            try:
                value = parsed(line)
            except UnicodeDecodeError:
                dropped["notUtf8"] += 1
                continue
            except ValueError as error:
                hint = "every line must be one JSON object; repair or remove the line"
                raise malformed(str(error), hint) from None
            if not isinstance(value, dict):
                problem = f"must be a JSON object, is {type(value).__name__}"
                raise malformed(problem, f"write one document a line, like {example}")
            yield f"line {number}", value


def _lines(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.name.lower().endswith(".zst"):
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), 1 << 20)
    return path.open("rb", buffering=1 << 20)


def _parquet(
    dataset: Dataset, file: SourceFile, existing: ExistingFeedback | None, dropped: Counter[str]
) -> Rows:
    import pyarrow.parquet as pq

    wanted = [dataset.messages_field or dataset.text_field]
    if existing:
        wanted += [name for name in (existing.score_field, existing.critique_field) if name]
    with pq.ParquetFile(file.path, buffer_size=1 << 20) as table:
        names = table.schema_arrow.names
        missing = [name for name in wanted if name not in names]
        if missing:
            raise StepError(
                Exit.DATA,
                f"dataset {dataset.name}: {file.path} has no column {missing[0]!r}",
                f"its columns are {', '.join(names)}: name one of them in the manifest",
            )
        groups = [table.metadata.row_group(place) for place in range(table.num_row_groups)]
        size = sum(group.total_byte_size for group in groups) // max(1, table.metadata.num_rows)
        number = 0
        for batch in table.iter_batches(max(1, min(1024, _BATCH_BYTES // max(1, size))), columns=wanted):
            for row in _decoded(batch):
                number += 1
                if row is None:
                    dropped["notUtf8"] += 1
                else:
                    yield f"row {number}", row


def _decoded(batch: Any) -> Iterator[dict[str, Any] | None]:
    """Rows of a batch, None for one that holds what is not UTF-8."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            try:
                row = batch.slice(place, 1).to_pylist()[0]
            except UnicodeDecodeError:
                row = None
            yield row


def _text(dataset: Dataset, file: SourceFile, dropped: Counter[str]) -> Rows:
    if file.path.stat().st_size > MAX_TEXT_BYTES:
        dropped["tooLong"] += 1
        return
    try:
        text = file.path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        dropped["notUtf8"] += 1
    else:
        yield "the file", {dataset.text_field: text}


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
        score = _number(row, existing.score_field)
        critique = row.get(existing.critique_field) if existing.critique_field else None
        if critique is not None and not isinstance(critique, str):
            raise ValueError(
                f"field {existing.critique_field!r} must be a text, is {type(critique).__name__}"
            )
    return Raw(dataset.name, text, messages, score, critique)


def _number(row: Mapping[str, Any], field: str) -> float | None:
    """A score, None where there is none or it is not finite. Raises ValueError for what is no number."""
    value = row.get(field)
    if value is None:
        return None
    # bool is a subclass of int.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"field {field!r} must be a number, is {type(value).__name__}")  # noqa: TRY004
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _unusable(raw: Raw) -> str | None:
    if not raw.text.strip():
        return "empty"
    try:
        size = len(raw.text.encode())
        (raw.critique or "").encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        return "notUtf8"
    return "tooLong" if size > MAX_TEXT_BYTES else None


def _hint(row: Mapping[str, Any]) -> str:
    fields = ", ".join(map(repr, list(row)[:10])) or "none"
    return f"its fields are {fields}: name the right one in the manifest, or repair the data"
