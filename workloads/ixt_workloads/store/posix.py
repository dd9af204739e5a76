"""A store in a folder of a POSIX file system: local disk, NFS, Lustre, a mounted volume claim.

Plain system calls and not obstore's LocalStore, which neither syncs what it writes nor asks a server that
repeated a request whether the link is ours.
"""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ixt_workloads.store.base import TEMPORARY, ObjectInfo, Store, check_path
from ixt_workloads.store.errors import NotFound, StoreNotWritable, from_os_error

_COPY_BYTES = 8 * 2**20
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_TRIES = 5
T = TypeVar("T")


class PosixStore(Store):
    """Files in `root`, which is made on the first write."""

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        self._root = root

    def get(self, path: str) -> bytes:
        with self._errors(path):
            return self._path(path).read_bytes()

    def open_local(self, path: str) -> Path:
        if not self.exists(path):
            raise NotFound(f"{self.uri}/{path} is not there", "check the name and the storage URI")
        return self._path(path)

    def put_new(self, path: str, data: bytes | Path) -> bool:
        target = self._path(path)
        with self._errors(path):
            if target.exists():
                return False
        # Linked, not renamed: rename would replace a file that came to be in between.
        with self._temporary(path, data, 0o444) as temporary:
            return self._link(temporary, target)

    def put(self, path: str, data: bytes | Path) -> None:
        target = self._path(path)
        with self._temporary(path, data, 0o644) as temporary:
            _in_folder(target.parent, lambda: temporary.replace(target))
            _sync_folder(target.parent)

    def exists(self, path: str) -> bool:
        with self._errors(path):
            return self._path(path).is_file()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        top = self._path(prefix) if prefix else self._root
        found = []
        with self._errors(prefix):
            for folder, _, names in os.walk(top, onerror=_raise_unless_gone):
                for name in names:
                    file = Path(folder, name)
                    with suppress(FileNotFoundError):
                        found.append(_info(file, file.relative_to(self._root).as_posix()))
        return iter(sorted(found, key=lambda info: info.path))

    def sha256(self, path: str) -> str:
        with self._errors(path), self._path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def delete(self, path: str) -> None:
        target = self._path(path)
        with self._errors(path):
            target.unlink(missing_ok=True)
            self._prune(target.parent)

    def delete_tree(self, prefix: str) -> None:
        target = self._path(prefix)
        with self._errors(prefix):
            if target.is_dir():
                with suppress(FileNotFoundError):
                    shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
            self._prune(target.parent)

    def local_dir(self, path: str) -> Path:
        folder = self._path(path)
        with self._errors(path):
            _make_folders(folder)
        return folder

    def upload_dir(self, path: str) -> None:
        """The folder is the store's own."""

    def download_dir(self, path: str) -> None:
        """The folder is the store's own."""

    def _path(self, path: str) -> Path:
        return self._root / check_path(path)

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"{self.uri}/{path}") from error

    @contextmanager
    def _temporary(self, path: str, data: bytes | Path, mode: int) -> Iterator[Path]:
        """A synced file with `data`, gone again on leaving; every OSError becomes one about `path`."""
        # A missing source is the caller's mistake, not the store's.
        with data.open("rb") if isinstance(data, Path) else nullcontext() as source, self._errors(path):
            temporary = self._root / TEMPORARY / uuid.uuid4().hex
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = _in_folder(temporary.parent, lambda: os.open(temporary, flags, mode))
            try:
                with os.fdopen(descriptor, "wb") as sink:
                    if source is None:
                        assert isinstance(data, bytes)
                        sink.write(data)
                    else:
                        shutil.copyfileobj(source, sink, _COPY_BYTES)
                    sink.flush()
                    os.fsync(sink.fileno())
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)

    def _link(self, temporary: Path, target: Path) -> bool:
        try:
            _in_folder(target.parent, lambda: os.link(temporary, target))
            won = True
        except FileExistsError:
            # An NFS server that repeats a lost answer says "exists" to the one who made the link.
            won = target.exists() and target.samefile(temporary)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise StoreNotWritable(
                f"{self.uri} lies on a file system without hard links ({(error.strerror or '').lower()})",
                "use a local disk, NFS, Lustre, CephFS or an object store (s3://, gs://)",
            ) from error
        _sync_folder(target.parent)
        return won

    def _prune(self, folder: Path) -> None:
        """Remove empty folders up to the root; another's new file in one of them keeps it."""
        while folder != self._root and folder.is_relative_to(self._root):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _info(file: Path, path: str) -> ObjectInfo:
    status = file.lstat()
    return ObjectInfo(
        path=path,
        size=status.st_size,
        modified=datetime.fromtimestamp(status.st_mtime, UTC),
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
    )


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _in_folder(folder: Path, action: Callable[[], T]) -> T:
    """Make the folder and act; again when someone deleted the folder in between because it was empty."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            _make_folders(folder)
            return action()
    return action()


def _make_folders(folder: Path) -> None:
    """mkdir -p that survives a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
