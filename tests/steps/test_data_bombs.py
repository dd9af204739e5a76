"""Files that are small and become large: refused with file and place, within a bounded memory."""

import gzip
import json
import mmap
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make import placed

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Dataset
from ixt_workloads.data.memory import bounded
from ixt_workloads.steps.inventory.files import files_of
from ixt_workloads.steps.inventory.rows import MAX_LINE_BYTES
from ixt_workloads.steps.inventory.sources import documents

MIB = 2**20


def many_values(folder: Path) -> str:
    """A line of some kB that becomes 30 million empty lists."""
    line = b'{"text": [' + b"[]," * (20 * MIB) + b"0]}\n"
    (folder / "bomb.jsonl.gz").write_bytes(gzip.compress(line))
    return "bomb.jsonl.gz, line 1: more than 1,000,000 values"


def long_line(folder: Path) -> str:
    with gzip.open(folder / "bomb.jsonl.gz", "wb") as file:
        for _ in range(200):
            file.write(b" " * MIB)
    return "bomb.jsonl.gz, line 1: longer than 64 MiB"


def deep(folder: Path) -> str:
    (folder / "bomb.jsonl.gz").write_bytes(gzip.compress(b"[" * 10 * MIB))
    return "bomb.jsonl.gz, line 1: more than 1,000,000 values"


def deep_and_short(folder: Path) -> str:
    (folder / "bomb.jsonl").write_bytes(b'{"text":' * 100_000)
    return "bomb.jsonl, line 1: malformed JSON: nested too deeply"


def parquet(folder: Path) -> str:
    """One value of 3 MiB, a thousand times, of which the file has one copy."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * (3 * MIB)]))
    table = pa.table({"text": values})
    pq.write_table(table, folder / "bomb.parquet", compression="zstd")
    assert (folder / "bomb.parquet").stat().st_size < MIB
    return "bomb.parquet, after its start: it takes more than 3 GiB of memory to read"


BOMBS = [many_values, long_line, deep, deep_and_short, parquet]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_with_file_and_place(tmp_path: Path, bomb: Callable[[Path], str]) -> None:
    """In a process of its own, whose memory is measured."""
    said = bomb(tmp_path)
    code = f"""
from collections import Counter
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.settings import Dataset
from ixt_workloads.data import memory
from ixt_workloads.steps.inventory.files import files_of
from ixt_workloads.steps.inventory.sources import documents
dataset = Dataset(name="d", uri="file://{tmp_path}")
try:
    with memory.bounded(1 << 30):
        for file in files_of(dataset).read:
            for _ in documents(dataset, file, None, Counter()):
                pass
except StepError as error:
    print(error.code.name, error.message)
# Not ru_maxrss, in which this process has what it was forked from.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    told, used = out.strip().splitlines()
    assert told == f"DATA dataset d: {tmp_path}/{said}"
    assert int(used) < 1.4 * MIB  # kB


def test_a_long_text_is_no_bomb(tmp_path: Path) -> None:
    text = '[{,:"\\' * (2 * MIB)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}))
    dataset = Dataset(name="d", uri=f"file://{tmp_path}")
    (file,) = files_of(dataset).read
    assert [raw.text for raw in documents(dataset, file, None, Counter())] == [text]
    assert len(text) < MAX_LINE_BYTES


def test_a_zstd_window_of_any_size_is_refused(tmp_path: Path) -> None:
    """A frame whose header asks for a window of 2 GiB."""
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00"
    (tmp_path / "a.jsonl.zst").write_bytes(frame)
    dataset = Dataset(name="d", uri=f"file://{tmp_path}")
    (file,) = files_of(dataset).read
    with pytest.raises(StepError, match=r"a.jsonl.zst cannot be read") as refused:
        list(documents(dataset, file, None, Counter()))
    assert refused.value.code is Exit.DATA


def test_the_bound_ends_with_its_block() -> None:
    """Asked of the kernel, since malloc may have as much left over from earlier tests."""

    def taken() -> None:
        mmap.mmap(-1, 256 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounded(64 * MIB), pytest.raises(OSError, match="Cannot allocate memory"):
        taken()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    taken()


# What who may write to the storage puts in place of a step's files


def test_a_bomb_in_the_storage_is_refused_by_its_name(tmp_path: Path) -> None:
    """In a process of its own, which has no memory left over from before."""
    folder = placed.make(tmp_path)
    command = [sys.executable, "-m", "make.placed", str(folder)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    told = json.loads(done.stdout)
    assert told.keys() == placed.READERS.keys()
    for reader, said in told.items():
        file = folder / ("sequences" if reader == "sequences in Train" else "table")
        assert said == f"DATA {file} takes more than 512 MiB of memory to read", reader
