"""A store in a folder of a POSIX file system: local disk, NFS, Lustre, a mounted volume claim.

Plain system calls and not obstore's LocalStore, which neither syncs what it writes nor asks a server that
repeated a request whether the link is ours.
"""

import errno
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from ixt_workloads.store import beneath
from ixt_workloads.store.base import MAX_DOCUMENT, TEMPORARY, ObjectInfo, Store, check_path, within
from ixt_workloads.store.errors import StoreNotWritable, from_os_error

_COPY_BYTES = 8 * 2**20
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_TRIES = 5


class PosixStore(Store):
    """Files in `root`, which is made on the first write. Links below it are not followed (`beneath.py`)."""

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        self._root = root

    def get(self, path: str, most: int = MAX_DOCUMENT) -> bytes:
        with self._open(path) as file:
            return within(file.read(most + 1), most, f"{self.uri}/{path}")

    def open_local(self, path: str) -> Path:
        with self._open(path):
            return self._root / path

    def put_new(self, path: str, data: bytes | Path) -> bool:
        check_path(path)
        with self._errors(path):
            if beneath.status(self._root, path):
                return False
        # Linked, not renamed: rename would replace a file that came to be in between.
        with self._temporary(path, data, 0o444) as (folder, name):
            return self._link(folder, name, path)

    def put(self, path: str, data: bytes | Path) -> None:
        check_path(path)

        def rename(into: int, target: str) -> None:
            os.rename(name, target, src_dir_fd=folder, dst_dir_fd=into)

        with self._temporary(path, data, 0o644) as (folder, name):
            self._in_folder(path, rename)

    def exists(self, path: str) -> bool:
        with self._errors(path):
            found = beneath.status(self._root, path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = []
        with (
            self._errors(prefix, root=True),
            suppress(FileNotFoundError, NotADirectoryError),
            beneath.folder(self._root, prefix) as top,
        ):
            for folder, _, names, descriptor in os.fwalk(".", dir_fd=top, onerror=_raise_unless_gone):
                for name in names:
                    path = "/".join(filter(None, (prefix, folder[2:], name)))
                    with suppress(FileNotFoundError):
                        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            found.append(_info(status, path))
        return iter(sorted(found, key=lambda info: info.path))

    def sha256(self, path: str) -> str:
        with self._open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def delete(self, path: str) -> None:
        self._remove(path, lambda folder, name: os.unlink(name, dir_fd=folder))

    def delete_tree(self, prefix: str) -> None:
        def remove(folder: int, name: str) -> None:
            try:
                os.unlink(name, dir_fd=folder)
            except (IsADirectoryError, PermissionError):
                shutil.rmtree(name, dir_fd=folder)

        self._remove(prefix, remove)

    def local_dir(self, path: str) -> Path:
        with self._errors(path), beneath.folder(self._root, path, make=True):
            return self._root / path

    def upload_dir(self, path: str) -> None:
        """The folder is the store's own."""

    def download_dir(self, path: str) -> None:
        """The folder is the store's own."""

    @contextmanager
    def _open(self, path: str) -> Iterator[BufferedReader]:
        with (
            self._errors(path),
            beneath.opened(self._root, path) as descriptor,
            os.fdopen(descriptor, "rb", closefd=False) as file,
        ):
            yield file

    @contextmanager
    def _errors(self, path: str, *, root: bool = False) -> Iterator[None]:
        """Turns every OSError into one about `path`, which is checked."""
        if path or not root:
            check_path(path)
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"{self.uri}/{path}") from error

    @contextmanager
    def _temporary(self, path: str, data: bytes | Path, mode: int) -> Iterator[tuple[int, str]]:
        """A synced file with `data`, as its folder and name, gone again on leaving; every OSError becomes one
        about `path`."""
        # A missing source is the caller's mistake, not the store's.
        with (
            data.open("rb") if isinstance(data, Path) else nullcontext() as source,
            self._errors(path),
            beneath.folder(self._root, TEMPORARY, make=True) as folder,
        ):
            name = uuid.uuid4().hex
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(name, flags, mode, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as sink:
                    if source is None:
                        assert isinstance(data, bytes)
                        sink.write(data)
                    else:
                        shutil.copyfileobj(source, sink, _COPY_BYTES)
                    sink.flush()
                    os.fsync(sink.fileno())
                yield folder, name
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)

    def _link(self, folder: int, name: str, path: str) -> bool:
        """Give a file the name `path`; whether no other had it."""

        def link(into: int, target: str) -> None:
            os.link(name, target, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False)

        try:
            self._in_folder(path, link)
        except FileExistsError:
            # An NFS server that repeats a lost answer says "exists" to the one who made the link.
            there = beneath.status(self._root, path)
            mine = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return there is not None and os.path.samestat(there, mine)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise StoreNotWritable(
                f"{self.uri} lies on a file system without hard links ({(error.strerror or '').lower()})",
                "use a local disk, NFS, Lustre, CephFS or an object store (s3://, gs://)",
            ) from error
        return True

    def _in_folder(self, path: str, action: Callable[[int, str], None]) -> None:
        """Act on a name in its folder, which is made, and have it last; again when someone deleted the folder
        in between because it was empty."""
        for tries in range(_TRIES, -1, -1):
            try:
                with beneath.parent(self._root, path, make=True) as (folder, name):
                    action(folder, name)
                    beneath.sync(folder)
            except FileNotFoundError:
                if not tries:
                    raise
            else:
                return

    def _remove(self, path: str, action: Callable[[int, str], None]) -> None:
        """Remove what has a name, if it is there, and the folders above that are empty then; another's new
        file in one of them keeps it."""
        with self._errors(path):
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                beneath.parent(self._root, path) as (folder, name),
            ):
                action(folder, name)
            above = path.rpartition("/")[0]
            while above:
                try:
                    with beneath.parent(self._root, above) as (folder, name):
                        os.rmdir(name, dir_fd=folder)
                except OSError as error:
                    if not isinstance(error, FileNotFoundError):
                        return
                above = above.rpartition("/")[0]


def _info(status: os.stat_result, path: str) -> ObjectInfo:
    return ObjectInfo(
        path=path,
        size=status.st_size,
        modified=datetime.fromtimestamp(status.st_mtime, UTC),
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
    )


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
