"""Corpora as users bring them, and what Inventory makes of them."""

import csv
import gzip
import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.graph import Node, Probe, Task
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.settings import Dataset
from ixt_workloads.store import Artifact, open_store
from make.tasks import task

Row = dict[str, Any]

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "plus", "minus", "times", "equals", "is")


def texts(count: int, seed: int = 0, words: tuple[int, int] = (5, 40)) -> list[str]:
    """Different texts of words, each on one line."""
    dice = random.Random(seed)
    return [
        f"{seed}-{number}: {' '.join(dice.choices(WORDS, k=dice.randint(*words)))}" for number in range(count)
    ]


def rows(documents: Iterable[str]) -> list[Row]:
    """Texts as rows with the field `text`."""
    return [{"text": text} for text in documents]


def chat(question: str, answer: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation of a question and its answer."""
    first = [] if system is None else [{"role": "system", "content": system}]
    return [*first, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def jsonl(path: Path, lines: Sequence[Row | str | bytes]) -> Path:
    """A file of lines, compressed as its name says; a line that is no row is written as it is."""
    made = [line if isinstance(line, bytes) else _text(line).encode() for line in lines]
    return _compressed(path, b"".join(line + b"\n" for line in made))


def parquet(path: Path, lines: Sequence[Row], *, plain: bool = False) -> Path:
    """A parquet file; `plain` shows its texts as they are to who looks at its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False} if plain else {}
    pq.write_table(pa.Table.from_pylist(list(lines)), path, **options)
    return path


def arrow(path: Path, lines: Sequence[Row], *, stream: bool = False) -> Path:
    """An arrow file, or a stream as `save_to_disk` of Hugging Face's datasets writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(lines))
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(path, table.schema) as writer:
        writer.write_table(table, 100)
    return path


def csv_file(path: Path, lines: Sequence[Row]) -> Path:
    """A csv file with a line of names."""
    sink = io.StringIO()
    table = csv.DictWriter(sink, list(lines[0]))
    table.writeheader()
    table.writerows(lines)
    return _compressed(path, sink.getvalue().encode())


def text_files(folder: Path, documents: Iterable[str], ending: str = ".txt") -> Path:
    """A folder with one file for each text, in folders of ten."""
    for number, text in enumerate(documents):
        path = folder / f"{number // 10:03d}" / f"{number:05d}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def hub_snapshot(cache: Path, repository: str, files: Mapping[str, bytes], revision: str = "main") -> str:
    """Put files into a cache laid out as huggingface_hub does it; answers the commit.

    `repository` is `datasets/owner/name` or `models/owner/name`.
    """
    commit = sha256(json.dumps({name: data.hex() for name, data in files.items()}).encode()).hexdigest()[:40]
    root = cache / repository.replace("/", "--")
    for name, data in files.items():
        blob = root / "blobs" / sha256(data).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = root / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / revision).write_text(commit)
    return commit


def dataset(path: Path | str, name: str = "corpus", **fields: Any) -> Dataset:
    """A dataset at a path or a URI."""
    return Dataset(name=name, uri=path if isinstance(path, str) else f"file://{path}", **fields)


def inventory_task(
    storage: Path,
    *datasets: Dataset,
    probe: Probe | None = None,
    attempt: int = 0,
    **config: Any,
) -> Task:
    """A task of Inventory, which finds its key by itself."""
    made = task(InventoryConfig(datasets=datasets, **config), storage, attempt=attempt)
    version = KINDS[made.kind].version
    own = Node(
        **made.fields_of_node(), version=version, config=made.config, inputs={"datasets": "pin:datasets"}
    )
    made = made.model_copy(update={"probe": probe or Probe(nodes=(own,))})
    return made.model_copy(update={"key": "", "preimage": {}})


def artifact(storage: Path, key: str) -> Artifact:
    """A committed artifact."""
    return Artifact.open(open_store(f"file://{storage}"), key)


def read(found: Artifact, start: str = "docs-") -> list[Row]:
    """The rows of an artifact's parquet files whose names begin so, in order."""
    return [
        row
        for path in found.paths
        if path.startswith(start)
        for row in pq.read_table(found.file(path)).to_pylist()
    ]


def _text(line: Row | str) -> str:
    return line if isinstance(line, str) else json.dumps(line)


def _compressed(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    elif path.suffix == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        data = sink.getvalue().to_pybytes()
    path.write_bytes(data)
    return path
