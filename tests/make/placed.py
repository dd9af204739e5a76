"""Files that a hostile writer places in a storage: small ones that become large when a step reads them.

`python -m make.placed FOLDER` has every step's reader read those of `make(FOLDER)`, each with 512 MiB, and
prints what each said.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.settings import StageType
from ixt_workloads.data import memory
from ixt_workloads.data.packed import PackedData
from ixt_workloads.data.parquet import rows_of
from ixt_workloads.steps.annotate.shards import Shards
from ixt_workloads.steps.prepare.__main__ import _texts
from ixt_workloads.steps.prepare.joined import _scored
from ixt_workloads.steps.report.read import judged_documents

MIB = 2**20
MOST = 512 * MIB
ROWS = 128
VALUE = 12 * MIB
"""Bytes of a value, of which 64 are more than MOST: so many rows Prepare has at a time."""
COLUMNS = ("id", "score", "critique", "text", "messages", "source", "sample", "axes", "reasoning")


def make(folder: Path) -> Path:
    """A table of whose every column one value stands for many, and sequences packed as no step packs them."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array(["x" * VALUE]))
    table = pa.table({**dict.fromkeys(COLUMNS, values), "status": ["ok"] * ROWS})
    pq.write_table(table, folder / "table", compression="zstd", store_schema=False)
    batch = pa.table({"input_ids": pa.array([b"\0" * 2 * MOST], pa.large_binary())})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(folder / "sequences", batch.schema, options=options) as writer:
        writer.write_table(batch)
    assert all(file.stat().st_size < 2 * MIB for file in folder.iterdir())
    return folder


class Placed:
    """An artifact whose every file is the same."""

    paths = ("main-00000.arrow", "feedback-00000.parquet")

    def __init__(self, file: Path) -> None:
        self._file = file

    def file(self, _: str) -> Path:
        """The file."""
        return self._file


def _documents_in_prepare(folder: Path) -> object:
    recipe = SimpleNamespace(config=SimpleNamespace(stage_type=StageType.PRETRAIN))
    return list(_texts(cast(Any, recipe), folder / "table", {0}))


def _feedback_in_prepare(folder: Path) -> object:
    config = SimpleNamespace(verifier=None)
    block = SimpleNamespace(feedback=[(Placed(folder / "table"), "feedback-00000.parquet")])
    return _scored(cast(Any, config), cast(Any, block), "critique")


def _documents_in_annotate(folder: Path) -> object:
    config = SimpleNamespace(judge=None, holdout=True)
    shards = SimpleNamespace(_config=config, inventory=Placed(folder / "table"), _sources={"file": "file"})
    return Shards.read(cast(Any, shards), "file")


def _examples(folder: Path) -> object:
    artifact = cast(Any, Placed(folder / "table"))
    return judged_documents(artifact, artifact)


READERS: dict[str, Callable[[Path], object]] = {
    "feedback in Prepare": _feedback_in_prepare,
    "documents in Prepare": _documents_in_prepare,
    "documents in Annotate": _documents_in_annotate,
    "held out, in Train and Evaluate": lambda folder: rows_of(folder / "table"),
    "examples in Report": _examples,
    "sequences in Train": lambda folder: PackedData.open(cast(Any, Placed(folder / "sequences")), "main"),
}


def _said(read: Callable[[Path], object], folder: Path) -> str:
    try:
        read(folder)
    except StepError as error:
        return f"{error.code.name} {error.message}"
    return "nothing"


if __name__ == "__main__":
    memory.MOST_BYTES = MOST
    print(json.dumps({name: _said(read, Path(sys.argv[1])) for name, read in READERS.items()}))
