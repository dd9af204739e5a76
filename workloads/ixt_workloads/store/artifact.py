"""Artifacts: files under artifacts/<key>/, each written once, and a manifest that is written last.

An artifact without a manifest does not exist. The next writer keeps the files that it finds there: the key
says what a file holds, whoever wrote it. In a store with signed documents it keeps those alone that somebody
with the key has noted, with their hash, in work/<key>/written/.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ixt_workloads.contract.foreign import json_of
from ixt_workloads.store.base import MAX_DOCUMENT, Store, check_path
from ixt_workloads.store.errors import ContentMismatch, Incomplete, InvalidPath, NotFound, from_os_error
from ixt_workloads.store.manifest import MANIFEST, Creator, FileEntry, Manifest, content_hash

log = logging.getLogger("ixt.store")

_PARALLEL = 8
_SHOWN = 5

_verified: set[tuple[Path, str]] = set()
"""Local files that this process found to have the sha256 of their manifest."""


def folder_of(key: str) -> str:
    """Folder of an artifact. Raises InvalidPath for a key that is more than one segment."""
    if "/" in key:
        raise InvalidPath(f"{key[:100]!r} is not a key", "use the key that the plan shows")
    return check_path(f"artifacts/{key}")


def committed(store: Store, key: str) -> bool:
    """Whether the artifact is there."""
    return store.exists(f"{folder_of(key)}/{MANIFEST}")


@dataclass(frozen=True)
class Artifact:
    """A committed artifact, to be read. Every file is checked against the manifest before its first use."""

    store: Store
    manifest: Manifest

    @classmethod
    def open(cls, store: Store, key: str) -> "Artifact":
        """Raises NotFound when it is not committed, ContentMismatch for a manifest that is not whole."""
        folder = folder_of(key)
        try:
            manifest = Manifest.model_validate_json(store.get(f"{folder}/{MANIFEST}"))
        except ValidationError as error:
            raise ContentMismatch(
                f"manifest of artifact {key} in {store.uri} cannot be read ({error.error_count()} errors)",
                f"a newer ixt may have written it; if not, delete {folder}/ and run again",
            ) from error
        if manifest.key != key or manifest.content_hash != content_hash(manifest.files):
            raise ContentMismatch(
                f"manifest of artifact {key} in {store.uri} was changed: its key is {manifest.key}, its "
                f"content hash {manifest.content_hash}, that of its files {content_hash(manifest.files)}",
                f"delete {folder}/ and run again",
            )
        return cls(store, manifest)

    @property
    def key(self) -> str:
        return self.manifest.key

    @property
    def summary(self) -> dict[str, Any]:
        return self.manifest.summary

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files, sorted."""
        return tuple(entry.path for entry in self.manifest.files)

    def file(self, path: str) -> Path:
        """A local file, never to be written. Raises ContentMismatch unless it is the manifest's."""
        entry = next((entry for entry in self.manifest.files if entry.path == path), None)
        if entry is None:
            raise NotFound(f"artifact {self.key} in {self.store.uri} has no file {path}", "check the name")
        local = self.store.open_local(f"{folder_of(self.key)}/{path}")
        if (local, entry.sha256) in _verified:
            return local
        try:
            with local.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise from_os_error(error, str(local)) from error
        if actual != entry.sha256:
            raise ContentMismatch(
                f"file {path} of artifact {self.key} in {self.store.uri} was changed: "
                f"sha256 is {actual[:16]}…, {entry.sha256[:16]}… in the manifest",
                f"delete {folder_of(self.key)}/ and run again",
            )
        _verified.add((local, entry.sha256))
        return local

    def link_into(self, folder: Path) -> None:
        """Show all files in one folder, each checked: object stores cache them one by one."""
        for path in self.paths:
            (folder / path).symlink_to(self.file(path).resolve())

    def read_json(self, path: str) -> Any:
        """A file that holds JSON. Raises ContentMismatch for one that no step writes."""
        try:
            with self.file(path).open("rb") as file:
                return json_of(file.read(MAX_DOCUMENT + 1), MAX_DOCUMENT)
        except ValueError as error:
            raise ContentMismatch(
                f"file {path} of artifact {self.key} in {self.store.uri} cannot be read: {error}",
                f"delete {folder_of(self.key)}/ and run again",
            ) from None


class ArtifactWriter:
    """Writes the files of one artifact, and commits it.

    Several processes may each write files of one key; any of them may commit when all files are there.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        kind: str,
        preimage: Mapping[str, Any],
        *,
        run: str,
        attempt: int,
        run_uid: str = "",
    ) -> None:
        self._store = store
        self._key = key
        self._folder = folder_of(key)
        self._kind = kind
        self._preimage = dict(preimage)
        self._creator = Creator(run=run, attempt=attempt, run_uid=run_uid)
        self._own: dict[str, str] = {}
        """sha256 of the files that this writer wrote, by their path."""

    def add(self, path: str, data: bytes | Path) -> bool:
        """Write a file; False when there is one, of another worker or a crashed attempt, which is kept."""
        place = self._place(path)
        noted = self._noted(path)
        new = self._store.put_new(place, data)
        if not new and (not self._store.signs or (noted and noted == self._store.sha256(place))):
            return False
        if not new:
            self._store.put(place, data)  # over what somebody without the key may have written
        self._own[path] = _sha256(data)
        if self._store.signs:
            self._store.put(self._note(path), json.dumps({"sha256": self._own[path]}).encode())
        return True

    def has(self, path: str) -> bool:
        """Whether someone wrote the file already."""
        there = self._store.exists(self._place(path))
        return there and (not self._store.signs or self._noted(path) is not None)

    def local(self, path: str) -> Path:
        """A local file with the content of a file that was written. Raises NotFound, and Incomplete in a
        store with signed documents for one that somebody else changed."""
        if self._store.signs:
            self._hash(path)
        return self._store.open_local(self._place(path))

    def commit(
        self, summary: Mapping[str, Any], files: Iterable[str], fingerprint: Mapping[str, str] | None = None
    ) -> Artifact:
        """Make the artifact exist, of just these files; others in its folder stay out of it.

        Returns what was committed first, which may be another's. Raises Incomplete while files are missing.
        """
        if committed(self._store, self._key):
            return Artifact.open(self._store, self._key)
        entries = self._entries(set(files))
        manifest = Manifest(
            key=self._key,
            kind=self._kind,
            preimage=self._preimage,
            files=entries,
            content_hash=content_hash(entries),
            summary=dict(summary),
            fingerprint=dict(fingerprint or {}),
            created_by=self._creator,
            created_at=datetime.now(UTC),
        )
        text = manifest.model_dump_json(indent=1)
        if not self._store.put_new(f"{self._folder}/{MANIFEST}", text.encode()):
            log.info("artifact %s was committed by another process", self._key)
        return Artifact.open(self._store, self._key)

    def _entries(self, wanted: set[str]) -> tuple[FileEntry, ...]:
        sizes = {
            info.path.removeprefix(f"{self._folder}/"): info.size for info in self._store.list(self._folder)
        }
        missing = sorted(wanted - sizes.keys())
        if missing:
            shown = ", ".join(missing[:_SHOWN])
            raise Incomplete(
                f"artifact {self._key} in {self._store.uri} lacks "
                f"{len(missing)} of {len(wanted)} files: {shown}",
                "write them, then commit",
            )
        others = sorted(sizes.keys() - wanted - {MANIFEST})
        if others:
            log.warning("left out of artifact %s: %d files, such as %s", self._key, len(others), others[0])
        paths = sorted(wanted)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            hashes = pool.map(self._hash, paths)
        return tuple(
            FileEntry(path=path, size=sizes[path], sha256=sha256)
            for path, sha256 in zip(paths, hashes, strict=True)
        )

    def _hash(self, path: str) -> str:
        """The sha256 of a file, of its bytes unless this writer wrote them. Raises Incomplete for one that is
        not what was noted: it counts as absent from now on."""
        if path in self._own:
            return self._own[path]
        found = self._store.sha256(self._place(path))
        if self._store.signs and found != self._noted(path):
            self._store.delete(self._note(path))
            raise Incomplete(
                f"file {path} of artifact {self._key} in {self._store.uri} is not what was written there",
                "run again: it is made anew",
            )
        return found

    def _noted(self, path: str) -> str | None:
        """The sha256 that somebody with the key noted for a file; None without a note."""
        if not self._store.signs:
            return None
        try:
            return str(json_of(self._store.get(self._note(path)))["sha256"])
        except (NotFound, ValueError, LookupError, TypeError):
            return None

    def _note(self, path: str) -> str:
        return check_path(f"work/{self._key}/written/{path}.json")

    def _place(self, path: str) -> str:
        if path == MANIFEST:
            raise InvalidPath(
                f"{MANIFEST} of artifact {self._key} is not a file of the step's own", "rename it"
            )
        return check_path(f"{self._folder}/{path}")


def _sha256(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
