"""Hashes of what is read, by which a pin is known: of files, and of a model's folder."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ixt_workloads.data.locate import unreadable

LOADED = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Endings of the files that loading a model reads."""


def pin_of_folder(folder: Path, names: Iterable[str] | None = None) -> str:
    """Hash over a model folder's files: the named ones with what folders among them hold, or all that loading
    reads. Raises StepError for one that cannot be read."""
    found = [
        path
        for path in folder.iterdir()
        if (path.name in names if names is not None else path.name.endswith(LOADED))
    ]
    found += [path for named in found if named.is_dir() for path in named.iterdir()]
    return digest(contents(folder, found))


def contents(folder: Path, paths: Iterable[Path]) -> list[list[str]]:
    """The files among paths of a folder, in order: where in it each is, and its hash. Raises StepError."""
    files = sorted(path for path in paths if path.is_file())
    return [[path.relative_to(folder).as_posix(), content(path)] for path in files]


def content(path: Path) -> str:
    """Hash of a file. Raises StepError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(str(path), error) from None


def digest(entries: Iterable[Any]) -> str:
    """Hash of a list of what JSON has."""
    text = json.dumps(list(entries), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
