"""Files below a folder, found without following links: whoever may write there leads nobody out of it.

Each segment of a path is opened in the folder before it, with O_NOFOLLOW, so that it makes no difference what
is replaced by a link meanwhile. (openat2 does the same in one call, but Python has no binding of it.)
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ixt_workloads.store.errors import LinkFound

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for the other end of a pipe.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@contextmanager
def folder(root: Path, path: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder `path` below `root` ("" for the root itself), which may itself be a link.

    `make`: made if it is not there, so that it survives a power cut. Raises OSError, and LinkFound.
    """
    here = _root(root, make=make)
    try:
        for name in path.split("/") if path else ():
            below = _into(here, name, make=make)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


@contextmanager
def parent(root: Path, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that holds `path`, and its name there."""
    above, _, name = path.rpartition("/")
    with folder(root, above, make=make) as descriptor:
        yield descriptor, name


@contextmanager
def opened(root: Path, path: str) -> Iterator[int]:
    """A descriptor of a regular file, to be read. Raises OSError: ENOENT for anything else than a file or a
    link, for which it raises LinkFound."""
    with parent(root, path) as (above, name):
        try:
            descriptor = os.open(name, _FILE, dir_fd=above)
        except OSError:
            _refuse_link(above, name)
            raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        yield descriptor
    finally:
        os.close(descriptor)


def status(root: Path, path: str) -> os.stat_result | None:
    """What a path is; None for what is not there, and for a link or what lies behind one."""
    try:
        with parent(root, path) as (above, name):
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError, LinkFound):
        return None
    return None if stat.S_ISLNK(found.st_mode) else found


def sync(descriptor: int) -> None:
    """Have what a folder lists survive a power cut."""
    os.fsync(descriptor)


def _root(root: Path, *, make: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(root, flags)
    except FileNotFoundError:
        if not make:
            raise
    missing = [root]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        above = os.open(made.parent, flags)
        try:
            sync(above)
        finally:
            os.close(above)
    return os.open(root, flags)


def _into(above: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    except OSError:
        _refuse_link(above, name)
        raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
        sync(above)
    return _into(above, name, make=False)


def _refuse_link(above: int, name: str) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise LinkFound(name)
