"""Rows of data files, one by one: jsonl, json and csv (plain, gzip or zstandard), parquet, arrow, texts."""

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

from ixt_workloads.contract.settings import DataFormat
from ixt_workloads.data.jsonl import parsed

MAX_TEXT_BYTES = 16 * 2**20
"""Longer documents are dropped: a tokenizer needs a hundred times as much memory for one."""
MAX_LINE_BYTES = 64 * 2**20
LONG_LINE_BYTES = 2**20
MAX_PARTS = 1_000_000
"""Values in a long line: each takes up to a hundred bytes of memory, where its text has two."""
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"')

MAX_JSON_BYTES = 256 * 2**20
_BATCH_BYTES = 8 * 2**20
"""Bytes of a parquet file that are decoded at a time, about."""

_GZIP, _ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {
    b"\xfd7zXZ\x00": "is packed with xz", b"BZh": "is packed with bzip2", b"PK\x03\x04": "is a zip archive",
    b"7z\xbc\xaf": "is packed with 7-Zip", b"PAR1": "is a parquet file", b"ARROW1": "is an arrow file",
}  # fmt: skip
"""What a file that should be text begins with, and what it then is."""
_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"
}  # fmt: skip

Row = tuple[str, dict[str, Any]]
"""With the place that a message names it by."""


class Malformed(Exception):  # noqa: N818 - told as a StepError, by who knows the dataset
    """What is wrong with a file, where (empty for all of it), and what to do."""

    def __init__(self, place: str, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.place, self.problem, self.hint = place, problem, hint


def rows(
    form: DataFormat, path: Path, fields: Sequence[str], optional: Sequence[str] | None, dropped: Counter[str]
) -> Iterator[Row]:
    """The rows of a file, with at least `fields`; of the `optional` ones those that it has (None: all).

    Rows that are not UTF-8 are passed over and counted. Raises Malformed, and what a damaged file makes gzip,
    pyarrow and the system raise.
    """
    readers: dict[DataFormat, Callable[[], Iterator[Row]]] = {
        DataFormat.JSONL: lambda: _jsonl(path, fields, dropped),
        DataFormat.JSON: lambda: _json(path, fields, dropped),
        DataFormat.CSV: lambda: _csv(path, fields),
        DataFormat.PARQUET: lambda: _parquet(path, fields, optional, dropped),
        DataFormat.ARROW: lambda: _arrow(path, fields, optional, dropped),
        DataFormat.TEXT: lambda: _text(path, fields, dropped),
    }
    return readers[form]()


def begins_with_array(path: Path) -> bool:
    """Whether a file is a JSON array, as far as its first bytes tell. False for one that is no JSON."""
    try:
        with _opened(path) as stream:
            return stream.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except (Malformed, EOFError, OSError):
        return False


def _opened(path: Path) -> IO[bytes]:
    """A file of text, unpacked if it is packed, whatever its name says. Raises Malformed for others."""
    with path.open("rb") as file:
        start = file.read(8)
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            raise Malformed("", what, "unpack it, or pack it with gzip or zstd; name a file by what it is")
    if start.startswith(_GZIP):
        stream = cast(IO[bytes], gzip.GzipFile(path))
    elif start.startswith(_ZSTANDARD):
        import pyarrow as pa

        stream = io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), 1 << 20)
    else:
        stream = path.open("rb", buffering=1 << 20)
    start = cast(io.BufferedReader, stream).peek(4)[:4]  # GzipFile has it too
    found = next((name for mark, name in _ENCODINGS.items() if start.startswith(mark)), "")
    if not found and b"\x00" in start[:2]:
        found = "UTF-16 or UTF-32"
    if found:
        stream.close()
        raise Malformed("", f"is {found}, not UTF-8", f"convert it: iconv -f {found.split()[0]} -t UTF-8")
    return stream


def _jsonl(path: Path, fields: Sequence[str], dropped: Counter[str]) -> Iterator[Row]:
    with _opened(path) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"line {number}"
            if len(line) > MAX_LINE_BYTES:
                hint = "is this one document a line?"
                raise Malformed(place, f"longer than {MAX_LINE_BYTES >> 20} MiB", hint)
            if len(line) > LONG_LINE_BYTES and _parts(line) > MAX_PARTS:
                raise Malformed(place, f"more than {MAX_PARTS:,} values", "is this one document a line?")
            if not line.strip():
                continue
            try:
                value = parsed(line)
            except UnicodeDecodeError:
                dropped["notUtf8"] += 1
                continue
            except ValueError as error:
                hint = "every line must be one JSON object; repair or remove the line"
                raise Malformed(place, str(error), hint) from None
            yield place, _object(value, place, fields)


def _json(path: Path, fields: Sequence[str], dropped: Counter[str]) -> Iterator[Row]:
    """An array of objects in one piece."""
    with _opened(path) as stream:
        data = stream.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        problem = f"an array of more than {MAX_JSON_BYTES >> 20} MiB, which is read in one piece"
        raise Malformed("", f"is {problem}", "write one object a line, as .jsonl")
    if not data.strip():
        return
    try:
        value = parsed(data)
    except UnicodeDecodeError:
        dropped["notUtf8"] += 1
        return
    except ValueError as error:
        raise Malformed("", str(error), "a .json must be one array of objects, or Jsonl by format") from None
    if not isinstance(value, list):
        raise Malformed("", "is no JSON array", "write an array of objects, or one object a line as .jsonl")
    for number, item in enumerate(value, 1):
        yield f"item {number}", _object(item, f"item {number}", fields)


def _csv(path: Path, fields: Sequence[str]) -> Iterator[Row]:
    """Rows below a line of names. What is not UTF-8 stays as surrogates, by which it is found later."""
    csv.field_size_limit(MAX_LINE_BYTES)
    with _opened(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        table = csv.DictReader(text, strict=True)
        try:
            names = list(table.fieldnames or ())
            if not names:
                return
            _check_columns(names, fields)
            if twice := [name for name in fields if names.count(name) > 1]:
                raise Malformed("", f"has several columns {twice[0]!r}", "rename all but one")
            for row in table:
                place = f"line {table.line_num}"
                if None in row:
                    problem = f"has more columns than the {len(names)} that the first line names"
                    raise Malformed(place, problem, "put texts with commas into quotes")
                yield place, row
        except csv.Error as error:
            raise Malformed(f"line {table.line_num}", f"malformed CSV: {error}", "repair the line") from None


def _object(value: Any, place: str, fields: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        problem = f"must be a JSON object, is {type(value).__name__}"
        raise Malformed(place, problem, f'write one document a line, like {{"{fields[0]}": …}}')
    return value


def _parts(line: bytes) -> int:
    """How many values a line of JSON has at most, in lists and objects; its texts are not looked at."""
    bare = _TEXT.sub(b"", line)
    return sum(map(bare.count, (b",", b"[", b"{", b":")))


def _check_columns(names: Sequence[str], fields: Sequence[str]) -> None:
    missing = [name for name in fields if name not in names]
    if missing:
        hint = f"its columns are {', '.join(names)}: name one of them in the manifest"
        raise Malformed("", f"has no column {missing[0]!r}", hint)


def _others(names: Sequence[str], fields: Sequence[str], optional: Sequence[str] | None) -> list[str]:
    """The columns that are read beside `fields`."""
    return [
        name for name in (names if optional is None else optional) if name in names and name not in fields
    ]


def _parquet(
    path: Path, fields: Sequence[str], optional: Sequence[str] | None, dropped: Counter[str]
) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, buffer_size=1 << 20) as table:
        names = table.schema_arrow.names
        _check_columns(names, fields)
        groups = [table.metadata.row_group(place) for place in range(table.num_row_groups)]
        size = sum(group.total_byte_size for group in groups) // max(1, table.metadata.num_rows)
        rows_at_once = max(1, min(1024, _BATCH_BYTES // max(1, size)))
        columns = [*fields, *_others(names, fields, optional)]
        yield from _numbered(table.iter_batches(rows_at_once, columns=columns), dropped)


def _arrow(
    path: Path, fields: Sequence[str], optional: Sequence[str] | None, dropped: Counter[str]
) -> Iterator[Row]:
    """A file or a stream of Arrow's, as `save_to_disk` of datasets writes it."""
    import pyarrow as pa

    if not path.stat().st_size:
        return
    with ExitStack() as open_files:
        source = open_files.enter_context(pa.memory_map(str(path)))
        try:
            table = pa.ipc.open_file(source)
            batches = (table.get_batch(place) for place in range(table.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.ipc.open_stream(source)
            batches = iter(table)
        names = table.schema.names
        _check_columns(names, fields)
        columns = [*fields, *_others(names, fields, optional)]
        pieces = (
            batch.select(columns).slice(start, 256)
            for batch in batches
            for start in range(0, batch.num_rows, 256)
        )
        yield from _numbered(pieces, dropped)


def _numbered(batches: Iterator[Any], dropped: Counter[str]) -> Iterator[Row]:
    number = 0
    for batch in batches:
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


def _text(path: Path, fields: Sequence[str], dropped: Counter[str]) -> Iterator[Row]:
    if path.stat().st_size > MAX_TEXT_BYTES:
        dropped["tooLong"] += 1
        return
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        dropped["utf16"] += 1
        return
    try:
        yield "the file", {fields[0]: data.decode("utf-8-sig")}
    except UnicodeDecodeError:
        dropped["notUtf8"] += 1
