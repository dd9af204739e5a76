"""What an artifact's manifest.json says."""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from ixt_workloads.contract.base import Lenient
from ixt_workloads.store.base import check_path

MANIFEST = "manifest.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Lenient):
    """One file of an artifact."""

    path: Annotated[str, AfterValidator(check_path)]
    """Below the artifact's folder."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: Sha256


class Creator(Lenient):
    """Which run and attempt committed."""

    run: str
    attempt: int
    run_uid: str = ""
    """Empty in manifests of versions that did not tell it."""


class Manifest(Lenient):
    """What an artifact is and what it holds."""

    schema_version: Literal[1] = 1
    key: str
    kind: str
    """Kind of the step."""
    preimage: dict[str, Any]
    """What the key was hashed from."""
    files: tuple[FileEntry, ...]
    """Sorted by path."""
    content_hash: Sha256
    """Over `files`; never part of a key, as engines are not bit-stable."""
    summary: dict[str, Any]
    """The step's own counts and costs."""
    fingerprint: dict[str, str]
    """Versions of engines and libraries."""
    created_by: Creator
    created_at: AwareDatetime


def content_hash(files: Iterable[FileEntry]) -> str:
    """sha256 over the lines `<sha256> <size> <path>`, sorted by path."""
    lines = [
        f"{entry.sha256} {entry.size} {entry.path}\n" for entry in sorted(files, key=lambda file: file.path)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
