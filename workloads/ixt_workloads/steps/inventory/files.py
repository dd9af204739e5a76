"""Which files a dataset has, and how each is read."""

import glob
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import DataFormat, Dataset
from ixt_workloads.data.locate import inside, local_data, remote, unreadable
from ixt_workloads.steps.inventory.rows import begins_with_array

PACKED = ("", ".gz", ".zst")
"""Endings of files that are packed; whether they are is seen by their first bytes."""

ENDINGS = {
    DataFormat.JSONL: tuple(f"{kind}{packed}" for packed in PACKED for kind in (".jsonl", ".ndjson")),
    DataFormat.PARQUET: (".parquet",),
    DataFormat.TEXT: (".txt", ".md", ".rst", ".py", ".tex", ".html"),
    DataFormat.CSV: tuple(f".csv{packed}" for packed in PACKED),
    DataFormat.JSON: tuple(f".json{packed}" for packed in PACKED),
    DataFormat.ARROW: (".arrow",),
}
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What names of files call the splits that have several names."""

CARD = "readme.md"
"""A file at the top of a dataset that describes it, as on the Hugging Face hub: no document."""


class SourceFile(NamedTuple):
    """One file of a dataset."""

    name: str
    """Path below the dataset's folder, or the file's own name."""
    path: Path
    format: DataFormat

    @property
    def most_bytes(self) -> int:
        """Bytes that it may have when it is read: text is hardly ever compressed more than 20 times."""
        packed = self.format is DataFormat.PARQUET or self.name.lower().endswith(PACKED[1:])
        return self.path.stat().st_size * (20 if packed else 1)


FilesOfDatasets = dict[str, list[SourceFile]]
"""The files of each dataset, by the dataset's name."""


class Files(NamedTuple):
    """What lies where a dataset is."""

    read: list[SourceFile]
    """By name."""
    left_out: list[str]
    """Names of files that are not of the dataset's format."""


def files_of(dataset: Dataset) -> Files:
    """The files of a dataset. Raises StepError when there are none of the format."""
    found, others = Files([], []), ""
    try:
        for name, path in _listed(dataset):
            if dataset.split and not of_split(name, dataset.split):
                others = others or name
                continue
            form = _format(dataset, name, path)
            if form is None:
                found.left_out.extend([] if name.lower() == CARD else [name])
            else:
                found.read.append(SourceFile(name, path, form))
    except StepError as error:
        raise StepError(error.code, f"dataset {dataset.name}: {error.message}", error.hint) from None
    except OSError as error:
        raise unreadable(f"dataset {dataset.name}: {error.filename or dataset.uri}", error) from None
    if not found.read and others:
        raise StepError(
            Exit.NO_INPUT,
            f"dataset {dataset.name}: {dataset.uri} has no file to read of the split {dataset.split!r}, but "
            f"others, such as {others}",
            "name a split that its files or folders are called by, or leave datasets[].split out",
        )
    if not found.read:
        every = tuple(ending for endings in ENDINGS.values() for ending in endings)
        wanted = every if dataset.format is DataFormat.TEXT else ENDINGS.get(dataset.format, every)
        objects = [name for name in found.left_out if _by_ending(name) is DataFormat.JSON]
        but = f"; {objects[0]} is no array of documents" if objects else ""
        raise StepError(
            Exit.NO_INPUT,
            f"dataset {dataset.name}: {dataset.uri} has no file to read ({', '.join(wanted)}){but}",
            "set datasets[].format to Jsonl if it has one on each line"
            if objects
            else "check datasets[].uri, or set datasets[].format",
        )
    return found


def of_split(name: str, split: str) -> bool:
    """Whether a path is of a split, as the hub reads names: a word in it is the split's, between separators
    or numbers."""
    words = "|".join(map(re.escape, _names(split)))
    return re.search(rf"(^|[/_. -])({words})([/_. 0-9-]|$)", name, re.IGNORECASE) is not None


def _names(split: str) -> tuple[str, ...]:
    return next((names for names in SPLITS.values() if split.lower() in names), (split,))


def shown(path: Path | str) -> str:
    """A path as a text, with what is not UTF-8 escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _listed(dataset: Dataset) -> Iterator[tuple[str, Path]]:
    """Names and paths of all files, but hidden ones."""
    if there := remote(dataset.uri, dataset.credentials_secret_ref):
        store, names = there
        for name in names:
            if not name.startswith(".") and "/." not in name:
                # What is left out is not fetched.
                known = dataset.format is DataFormat.TEXT or _by_ending(name) is not None
                wanted = dataset.split is None or of_split(name, dataset.split)
                yield name, store.open_local(name) if known and wanted else Path(name)
        return
    patterns = [glob.escape(each) for each in _names(dataset.split)] if dataset.split else []
    root = local_data(dataset.uri, dataset.credentials_secret_ref, patterns)
    for path in _below(root, ()) if root.is_dir() else [root]:
        name = shown(path.relative_to(root).as_posix() if path != root else root.name)
        inside(path, f"{dataset.uri.rstrip('/')}/{name}" if path != root else dataset.uri)
        if not stat.S_ISREG(path.stat().st_mode):
            raise StepError(
                Exit.NO_INPUT,
                f"{shown(path)} is no file but a pipe, socket or device",
                "leave it out of the dataset's folder",
            )
        yield name, path


def _below(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Files in a folder and in those below it, links followed, hidden ones left out. Raises StepError for a
    link that leads back to a folder `above` it."""
    known = folder.stat()
    here = (known.st_dev, known.st_ino)
    if here in above:
        raise StepError(
            Exit.NO_INPUT, f"{shown(folder)} is a link to a folder that it lies in", "remove the link"
        )
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _below(path, (*above, here))
        else:
            yield path


def _by_ending(name: str) -> DataFormat | None:
    lower = name.lower()
    return next((form for form, endings in ENDINGS.items() if lower.endswith(endings)), None)


def _format(dataset: Dataset, name: str, path: Path) -> DataFormat | None:
    """How a file is read; None for one that is not part of the dataset."""
    form = _by_ending(name)
    if dataset.format is DataFormat.TEXT:
        return DataFormat.TEXT
    if dataset.format is DataFormat.JSONL and form is DataFormat.JSON:
        return DataFormat.JSONL
    if dataset.format is not DataFormat.AUTO:
        return form if form is dataset.format else None
    if name.lower() == CARD or (form is DataFormat.JSON and not begins_with_array(path)):
        # Beside data, an object in a .json is about them: dataset_info.json, state.json.
        return None
    return form
