"""Turns URIs into folders and files of this machine, fetched where they lie elsewhere."""

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from ixt_workloads.contract.credentials import SecretRef, entries_of
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.store import NotFound, Store, open_store

BUCKETS = ("s3://", "gs://")
_PATHS = ("file://", "pvc://")

_KEPT = ("/proc", "/sys", "/dev", "/run/secrets", "/var/run/secrets", "/etc/ixt")
"""Folders of the system and of pods, in which nobody keeps data."""

_MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "LICENSE*", "NOTICE*")

_HUB_NAME = re.compile(
    r"(?:(?:datasets|models)/)?(?P<name>[^/@]+(?:/[^/@]+)?)(?:@(?P<revision>[^/]+))?(?:/(?P<path>.+))?"
)
"""As huggingface_hub writes it: hf://datasets/owner/name@revision/path, of which owner/name is enough."""


def local_folder(
    uri: str, revision: str | None = None, secret: SecretRef | None = None, *, what: str = "model"
) -> Path:
    """The folder of a model: itself for file:// and pvc://, fetched for hf://, s3:// and gs://, with the
    credentials in `secret` if the model has its own.

    Raises StepError when there is nothing; `what` is the field that names it, such as judge.model.
    """
    if uri.startswith("hf://"):
        path = _hub(uri, "model", revision, secret)
    elif uri.startswith(BUCKETS):
        path = _fetched(uri, secret)
    else:
        path = _path(uri)
    if path.is_file():
        raise StepError(Exit.NO_INPUT, f"{what}: {_place(uri, path)} is a file", "name the folder it lies in")
    if not path.is_dir():
        raise _missing(f"{what}: {_place(uri, path)}")
    if uri.startswith(_PATHS):
        for file in path.iterdir():
            inside(file, f"{what}: {uri}")
    return path


def local_config(uri: str, revision: str | None = None, secret: SecretRef | None = None) -> Path:
    """A folder with the config.json of a model, of which no more is fetched. Raises StepError."""
    if uri.startswith("hf://"):
        return _hub(f"{uri.rstrip('/')}/config.json", "model", revision, secret).parent
    if uri.startswith(BUCKETS):
        return local_file(f"{uri.rstrip('/')}/config.json", secret).parent
    return local_folder(uri)


def local_data(uri: str, secret: SecretRef | None = None, patterns: Sequence[str] = ()) -> Path:
    """The file or folder of data at a URI other than of an object store, of a hub's folder what has one of
    these `patterns` in its path (none: all). Raises StepError without one."""
    path = _hub(uri, "dataset", None, secret, patterns) if uri.startswith("hf://") else _path(uri)
    if not path.exists():
        raise _missing(_place(uri, path))
    return path


def local_tree(uri: str, secret: SecretRef | None = None, *, what: str) -> Path:
    """The folder of data at a URI with all that lies below it, fetched where it lies elsewhere. Raises
    StepError without one; `what` is what it is to the run."""
    path = _fetched(uri, secret) if uri.startswith(BUCKETS) else local_data(uri, secret)
    if not path.is_dir():
        raise StepError(Exit.NO_INPUT, f"{what}: {_place(uri, path)} is a file", "name the folder it lies in")
    return path


def local_file(uri: str, secret: SecretRef | None = None) -> Path:
    """The one file of data at a URI, fetched where it lies elsewhere. Raises StepError when there is none."""
    if uri.startswith(BUCKETS):
        folder, _, name = uri.rpartition("/")
        try:
            return open_store(folder, secret).open_local(name)
        except NotFound:
            raise _missing(uri) from None
    path = local_data(uri, secret)
    if not path.is_file():
        raise StepError(Exit.NO_INPUT, f"{_place(uri, path)} is a folder", "name the file in it")
    return path


def remote(uri: str, secret: SecretRef | None = None) -> tuple[Store, list[str]] | None:
    """Store and names of the files in a folder of an object store, or of the one file that a URI names; None
    for what lies on this machine."""
    if not uri.startswith(BUCKETS):
        return None
    store = open_store(uri, secret)
    names = [info.path for info in store.list("")]
    if names:
        return store, names
    folder, _, name = uri.rstrip("/").rpartition("/")
    if folder.count("/") >= 2 and (store := open_store(folder, secret)).exists(name):
        return store, [name]
    raise _missing(uri)


def unreadable(what: str, error: Exception) -> StepError:
    """The error for a file that cannot be read: for want of rights, by a fault of the machine, or torn."""
    number = getattr(error, "errno", None)
    reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    code, hint = Exit.DATA, "it is torn or damaged: copy it again"
    if number in (errno.EACCES, errno.EPERM):
        code, hint = Exit.NO_PERMISSION, "let this user read it"
    elif number in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
        code, hint = Exit.NO_INPUT, "is it a link to nowhere?"
    elif number is not None:
        code, hint = Exit.UNAVAILABLE, "check the file system"
    return StepError(code, f"{what} cannot be read: {reason}", hint)


def _path(uri: str) -> Path:
    """The path that a file:// or pvc:// URI names. Raises StepError for one that leads out of its claim, or
    to what the system or the platform keeps (`inside`)."""
    scheme, _, rest = uri.partition("://")
    parts = Path(unquote(rest).lstrip("/")).parts
    if ".." in parts:
        raise _elsewhere(uri, "it has '..' in it")
    if scheme == "file":
        path = Path("/", *parts)
        inside(path, uri)
        return path
    root = os.environ.get("IXT_PVC_ROOT")
    if not root:
        raise StepError(
            Exit.CONFIG,
            f"{uri} needs IXT_PVC_ROOT, the folder in which claims are mounted",
            "run inside the cluster, or with ixt run --workdir, which keeps volumes of its own",
        )
    path = Path(root, *parts)
    inside(path, uri)
    return path


def inside(path: Path, uri: str) -> None:
    """Raise StepError for a path whose links lead out of its claim, or, wherever it lies, to what the system
    or the platform keeps, such as processes, devices and Secrets."""
    real = Path(os.path.realpath(path))
    if any(real.is_relative_to(Path(os.path.realpath(kept))) for kept in _KEPT):
        raise _elsewhere(uri, f"{real} is the system's")
    root = os.environ.get("IXT_PVC_ROOT")
    if root and path.is_relative_to(root) and path != Path(root):
        claim = Path(root, path.relative_to(root).parts[0])
        if not real.is_relative_to(os.path.realpath(claim)):
            raise _elsewhere(uri, f"a link leads to {real}")


def _elsewhere(uri: str, why: str) -> StepError:
    return StepError(
        Exit.NO_PERMISSION, f"{uri} leads to where no data lies: {why}", "name a folder of the claim itself"
    )


def _hub(
    uri: str,
    kind: Literal["model", "dataset"],
    revision: str | None,
    secret: SecretRef | None,
    patterns: Sequence[str] = (),
) -> Path:
    """What a URI names in the snapshot of a repository of the Hugging Face hub.

    $HF_HUB_OFFLINE=1 takes what the hub's cache has.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    match = _HUB_NAME.fullmatch(uri.removeprefix("hf://"))
    if match is None:
        raise StepError(Exit.CONFIG, f"{uri} names no repository", "write hf://owner/name")
    name, path = match["name"], (match["path"] or "").rstrip("/")
    revision = revision or match["revision"]
    wanted = [path, f"{path}/*"] if path else list(_MODEL_FILES) if kind == "model" else None
    if patterns:
        wanted = [path, *(f"{path}*{each}*" for each in patterns)]
    own = entries_of(secret, os.environ)
    # False: no token at all, not even that of the environment.
    token = own.get("HF_TOKEN", False) if own else None
    try:
        snapshot = snapshot_download(
            name, repo_type=kind, revision=revision, allow_patterns=wanted, token=token
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise _not_had(f"{kind} {name}{f'@{revision}' if revision else ''} of the hub", error) from None
    return Path(snapshot) / path


def _not_had(what: str, error: Exception) -> StepError:
    """The error for a snapshot that could not be fetched: UNAVAILABLE where trying again may help."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        code = error.response.status_code
        if code == 429 or code >= 500:
            return StepError(Exit.UNAVAILABLE, f"{what} cannot be had: HTTP {code}", "try again later")
    elif isinstance(error, OSError) and error.errno is not None:
        return StepError(
            Exit.UNAVAILABLE, f"{what} cannot be kept: {error.strerror}", "check the hub's cache, HF_HOME"
        )
    return StepError(
        Exit.NO_INPUT,
        f"{what} cannot be had: {type(error).__name__}",
        "check name and revision, and HF_TOKEN of what is private or gated; without network, put a snapshot "
        "into the hub's cache or give file://",
    )


def _fetched(uri: str, secret: SecretRef | None) -> Path:
    """A folder with the files of a folder in an object store.

    Its name is a hash of the listing, so other files there make another folder here.
    """
    store = open_store(uri, secret)
    infos = list(store.list(""))
    if not infos:
        raise _missing(uri)
    listing = "\n".join([uri, *(f"{info.path} {info.etag}" for info in infos)])
    root = Path(os.environ.get("IXT_CACHE") or Path.home() / ".cache/ixt", "folders")
    folder = root / hashlib.sha256(listing.encode()).hexdigest()[:32]
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        for info in infos:
            (new / info.path).parent.mkdir(parents=True, exist_ok=True)
            # The store's own cache has checked the file: the folder only gives it its name.
            (new / info.path).symlink_to(store.open_local(info.path))
        new.rename(folder)
    except OSError:
        # Another process of this machine was first.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _place(uri: str, path: Path) -> str:
    """A URI, with its path on this machine unless the URI shows it."""
    return uri if uri.startswith("file://") else f"{uri} ({path})"


def _missing(place: str) -> StepError:
    return StepError(Exit.NO_INPUT, f"{place} does not exist", "check the URI in the manifest")
