"""Errors of storage. Each has one message, which names the place and what to do next."""

# ruff: noqa: N818 - callers read `except NotFound`; "Error" would add nothing.

import errno

from ixt_workloads.contract.exits import Exit


class StoreError(Exception):
    """A failure of storage. Messages never hold credentials."""

    code = Exit.CONFIG
    """Exit code of a step that ends with this error."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what}; {next_step}")


class StoreUnavailable(StoreError):
    """Network, server or disk trouble: trying again later may help."""

    code = Exit.UNAVAILABLE


class StoreNotWritable(StoreError):
    """No permission, a read-only file system, or one that cannot create if absent."""

    code = Exit.NOT_WRITABLE


class StoreFull(StoreError):
    """No space or no quota left."""

    code = Exit.STORAGE_FULL


class NotFound(StoreError):
    """A file, an artifact or a bucket that is not there."""

    code = Exit.NO_INPUT


class LinkFound(StoreError):
    """A link in a store: it may lead out of it."""

    code = Exit.NO_PERMISSION

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} in the storage is a link, and links are not followed", "replace it by what it points to"
        )


class InvalidPath(StoreError, ValueError):
    """A path that leaves the store, or that not every kind of store can hold."""

    code = Exit.USAGE


class FileTooLarge(StoreError):
    """A file of an artifact that does not fit into one conditional put."""


class Incomplete(StoreError):
    """A commit of an artifact some of whose files are missing."""

    code = Exit.CRASHED


class ContentMismatch(StoreError):
    """A file or manifest that was changed after it was written."""

    code = Exit.DATA


_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def not_there(place: str) -> NotFound:
    """The error for a file that is looked for at a URI or local path."""
    return NotFound(f"{place} is not there", "check the name and the storage URI")


def no_space(place: str, reason: str) -> StoreFull:
    """The error for a file that is too much."""
    return StoreFull(f"no space for {place}: {reason}", "free space or raise the quota, then run again")


def from_os_error(error: OSError, place: str) -> StoreError:
    """The error of a file operation at `place`, a URI or a local path."""
    reason = (error.strerror or type(error).__name__).lower()
    if error.errno in _MISSING:
        return not_there(place)
    if error.errno in _FULL:
        return no_space(place, reason)
    if error.errno in _DENIED:
        return StoreNotWritable(
            f"no access to {place}: {reason}", "let this user write the folder, or choose another storage URI"
        )
    return StoreUnavailable(f"{place} cannot be reached: {reason}", "check the file system, then run again")
