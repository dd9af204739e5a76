"""URIs to what can be read: folders and files of this machine, fetched where they lie elsewhere."""

import os
from pathlib import Path

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.store import NotFound, Store, open_store


def local_folder(uri: str, revision: str | None = None) -> Path:
    """A folder with what lies at a URI: itself for file:// and pvc://, fetched for hf://, s3:// and gs://.

    Raises StepError when there is nothing.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "hf":
        return _hub(rest, revision)
    if scheme in ("s3", "gs"):
        store = open_store(uri)
        folder = Path(os.environ.get("IXT_CACHE", Path.home() / ".cache" / "ixt")) / "folders" / scheme / rest
        found = False
        for info in store.list(""):
            target = folder / info.path
            target.parent.mkdir(parents=True, exist_ok=True)
            # The store's own cache has checked the file: the folder only gives it its name.
            target.unlink(missing_ok=True)
            target.symlink_to(store.open_local(info.path))
            found = True
        if not found:
            raise _missing(uri)
        return folder
    path = _path(uri)
    if not path.is_dir():
        raise _missing(uri, path)
    return path


def local_file(uri: str, revision: str | None = None) -> Path:
    """The file at a URI, fetched where it lies elsewhere. Raises StepError when there is none."""
    scheme, _, rest = uri.partition("://")
    if scheme == "hf":
        name = rest.split("/", 2)
        path = _hub("/".join(name[:2]), revision) / (name[2] if len(name) > 2 else "")
    elif scheme in ("s3", "gs"):
        folder, _, last = uri.rpartition("/")
        try:
            return open_store(folder).open_local(last)
        except NotFound:
            raise _missing(uri) from None
    else:
        path = _path(uri)
    if not path.is_file():
        raise _missing(uri, path)
    return path


def remote(uri: str) -> tuple[Store, str] | None:
    """Store and name of a single file or, with an empty name, of a folder in an object store; None for what
    lies on this machine."""
    if not uri.startswith(("s3://", "gs://")):
        return None
    folder, _, last = uri.rstrip("/").rpartition("/")
    if folder.count("/") >= 2 and "." in last:
        return open_store(folder), last
    return open_store(uri), ""


def local_path(uri: str, revision: str | None = None) -> Path:
    """The file or folder of a URI on this machine. Raises StepError when there is none."""
    scheme, _, rest = uri.partition("://")
    path = _hub(rest, revision) if scheme == "hf" else _path(uri)
    if not path.exists():
        raise _missing(uri, path)
    return path


def _path(uri: str) -> Path:
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        return Path("/" + rest.lstrip("/"))
    root = os.environ.get("IXT_PVC_ROOT")
    if not root:
        raise StepError(Exit.CONFIG, f"{uri} needs IXT_PVC_ROOT, the folder in which claims are mounted")
    return Path(root) / rest


def _hub(name: str, revision: str | None) -> Path:
    """Snapshot of a repository of the Hugging Face hub; $HF_HUB_OFFLINE=1 takes what the cache has."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    owner_name = "/".join(name.split("/")[:2])
    patterns = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.jsonl*", "*.parquet", "*.model"]
    try:
        return Path(snapshot_download(owner_name, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise StepError(
            Exit.NO_INPUT,
            f"hf://{owner_name}{f'@{revision}' if revision else ''} cannot be had: {type(error).__name__}",
            "check name and revision; without network, put a snapshot into the hub's cache or give file://",
        ) from None


def _missing(uri: str, path: Path | None = None) -> StepError:
    where = f" ({path})" if path else ""
    return StepError(Exit.NO_INPUT, f"{uri}{where} does not exist", "check the URI in the manifest")
