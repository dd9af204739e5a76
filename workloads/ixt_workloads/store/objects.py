"""A store in a bucket: S3 and everything that speaks it, Google Cloud Storage; through obstore."""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import GCSStore, S3Store

from ixt_workloads.store.base import (
    MAX_COPY,
    MAX_DOCUMENT,
    MAX_SINGLE_PUT,
    TEMPORARY,
    ObjectInfo,
    Store,
    check_path,
    within,
)
from ixt_workloads.store.errors import FileTooLarge, NotFound, from_os_error
from ixt_workloads.store.remote import remote_errors

_CHUNK_BYTES = 8 * 2**20
_PART_BYTES = 16 * 2**20
"""Bytes of a part of a multipart upload, which has at most 10,000."""
_PAGE = 1000
_PARALLEL = 8


class ObjectStore(Store):
    """Objects of `remote`, which knows the prefix; local copies in the folder `cache`."""

    largest = MAX_COPY

    def __init__(self, uri: str, remote: S3Store | GCSStore, cache: Path) -> None:
        self.uri = uri
        self._remote = remote
        self._cache = cache

    def get(self, path: str, most: int = MAX_DOCUMENT) -> bytes:
        content = b""
        with self._errors(path):
            for chunk in obstore.get(self._remote, path).stream(min_chunk_size=_CHUNK_BYTES):
                content += bytes(chunk)
                if len(content) > most:
                    break
        return within(content, most, f"{self.uri}/{path}")

    def open_local(self, path: str) -> Path:
        with self._errors(path):
            etag = obstore.head(self._remote, path)["e_tag"]
        name = hashlib.sha256(f"{self.uri}\0{path}\0{etag}".encode()).hexdigest()[:32]
        folder = self._cache / name
        target = folder / path.rpartition("/")[2]
        with _local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # One process of a machine downloads, the others wait.
            with (folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not target.exists():
                    self._download(path, target)
        return target

    def put_new(self, path: str, data: bytes | Path) -> bool:
        check_path(path)
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if size > MAX_COPY:
            raise FileTooLarge(
                f"{self.uri}/{path} would have {size:,} bytes, and create-if-absent takes {MAX_COPY:,}",
                "write smaller shards, or keep artifacts on a POSIX file system (pvc://, file://)",
            )
        if size > MAX_SINGLE_PUT:
            return self._put_new_in_parts(path, data)
        content = data.read_bytes() if isinstance(data, Path) else data
        with self._errors(path):
            try:
                obstore.put(self._remote, path, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def _put_new_in_parts(self, path: str, data: bytes | Path) -> bool:
        """Upload in parts, which has no condition, then copy in the bucket if absent: on S3 that is an upload
        of one part that is copied, whose completion is conditional."""
        if self.exists(path):
            return False
        whole = f"{TEMPORARY}/{uuid.uuid4().hex}"
        try:
            self.put(whole, data)
            with self._errors(path):
                try:
                    obstore.copy(self._remote, whole, path, overwrite=False)
                except AlreadyExistsError:  # of another writer, in the meantime
                    return False
        finally:
            self.delete(whole)
        return True

    def put(self, path: str, data: bytes | Path) -> None:
        with self._errors(path):
            obstore.put(self._remote, path, data, chunk_size=_PART_BYTES)

    def exists(self, path: str) -> bool:
        try:
            with self._errors(path):
                obstore.head(self._remote, path)
        except NotFound:
            return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = []
        with self._errors(prefix) if prefix else remote_errors(f"{self.uri}/"):
            for page in obstore.list(self._remote, prefix or None, chunk_size=_PAGE):
                found += [
                    ObjectInfo(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"] or "")
                    for meta in page
                ]
        return iter(sorted(found, key=lambda info: info.path))

    def sha256(self, path: str) -> str:
        # Not what its metadata says: whoever wrote it said that.
        with self._errors(path):
            digest = hashlib.sha256()
            for chunk in obstore.get(self._remote, path).stream(min_chunk_size=_CHUNK_BYTES):
                digest.update(chunk)
            return digest.hexdigest()

    def delete(self, path: str) -> None:
        with suppress(NotFound), self._errors(path):
            obstore.delete(self._remote, path)

    def delete_tree(self, prefix: str) -> None:
        paths = [info.path for info in self.list(prefix)]
        with suppress(NotFound), self._errors(prefix):
            obstore.delete(self._remote, [*paths, prefix])
        shutil.rmtree(self._scratch(prefix), ignore_errors=True)

    def local_dir(self, path: str) -> Path:
        folder = self._scratch(path)
        with _local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def upload_dir(self, path: str) -> None:
        folder = self.local_dir(path)
        files = [file for file in folder.rglob("*") if file.is_file()]
        places = [f"{path}/{file.relative_to(folder).as_posix()}" for file in files]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(self.put, places, files))
        # Else every checkpoint would stay on every machine.
        shutil.rmtree(folder, ignore_errors=True)

    def download_dir(self, path: str) -> None:
        folder = self.local_dir(path)
        with _local_errors(folder):
            shutil.rmtree(folder)
            folder.mkdir()
        places = [info.path for info in self.list(path)]
        files = [folder / place.removeprefix(f"{path}/") for place in places]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(self._download, places, files))

    def _scratch(self, path: str) -> Path:
        return self._cache / hashlib.sha256(self.uri.encode()).hexdigest()[:32] / check_path(path)

    def _download(self, path: str, target: Path) -> None:
        partial = target.with_name(f".{target.name}.part")
        with _local_errors(target), self._errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as sink:
                for chunk in obstore.get(self._remote, path).stream(min_chunk_size=_CHUNK_BYTES):
                    sink.write(chunk)
                sink.flush()
                # A power cut must not leave an empty file under the final name.
                os.fsync(sink.fileno())
            partial.replace(target)

    def _errors(self, path: str) -> AbstractContextManager[None]:
        """Turns errors of the server into ours. Raises InvalidPath."""
        return remote_errors(f"{self.uri}/{check_path(path)}")


@contextmanager
def _local_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, f"local cache {place} (IXT_CACHE)") from error
