"""Parquet files of artifacts: written the same for the same rows, read within bounded memory."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads.data.counts import Counts
from ixt_workloads.data.memory import reading

Kept = TypeVar("Kept", bound=Counts)

_COUNTS = b"ixt.tally"


def parquet(table: pa.Table, **options: int) -> bytes:
    """The file of a table: the same bytes for the same rows. `options` as for pyarrow's `write_table`."""
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def with_counts(table: pa.Table, counts: Counts) -> pa.Table:
    """The table with counts of it in its file's footer, where `counts_in` finds them."""
    return table.replace_schema_metadata({_COUNTS: counts.to_json()})


def counts_in(file: Path, kind: type[Kept]) -> Kept:
    """The counts in a file's footer."""
    return kind.from_json(pq.read_metadata(file).metadata[_COUNTS])


def table_of(file: Path, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
    """The table of a file; `options` as for pyarrow's `read_table`. Raises StepError for one that becomes too
    large."""
    with reading(file):
        return pq.read_table(file, columns=columns, **options)


def rows_of(file: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a file. Raises StepError for one that becomes too large."""
    with reading(file):
        rows: list[dict[str, Any]] = pq.read_table(file, columns=columns).to_pylist()
        return rows
