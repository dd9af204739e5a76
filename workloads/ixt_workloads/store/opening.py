"""Opens the store that a URI names."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ixt_workloads.contract.credentials import SecretRef
from ixt_workloads.store.base import Store, check_path
from ixt_workloads.store.errors import NotFound, StoreError
from ixt_workloads.store.posix import PosixStore
from ixt_workloads.store.signed import LEAST_KEY, SignedStore

SIGNING_KEY = "IXT_SIGNING_KEY"

_VOLUME_CLAIM = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def open_store(uri: str, secret: SecretRef | None = None) -> Store:
    """The store at file:///folder, pvc://claim/folder, s3://bucket/prefix or gs://bucket/prefix.

    Volume claims are mounted in $IXT_PVC_ROOT/<claim>; buckets take endpoint and credentials from the usual
    variables (AWS_*, GOOGLE_*), or from the entries of the place's own Secret. Reaches out to nothing:
    `Store.probe` does. Raises StoreError.
    """
    parts = urlsplit(uri)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise StoreError(
            f"storage URI of {parts.scheme}://{parts.hostname} has more than a place in it",
            "leave out user, password, query and fragment; credentials come from the environment",
        )
    uri = uri.rstrip("/")
    folder = parts.path.strip("/")
    match parts.scheme:
        case "file":
            return PosixStore(uri, _local(uri, parts.netloc, parts.path))
        case "pvc":
            return PosixStore(uri, _mounted(uri, parts.netloc) / _prefix(folder))
        case "s3" | "gs" if parts.netloc:
            # Imported here: most processes that read a folder have no use for an HTTP client.
            from ixt_workloads.store import remote
            from ixt_workloads.store.objects import ObjectStore

            bucket, prefix = parts.netloc, _prefix(folder)
            cache = Path(os.environ.get("IXT_CACHE") or Path.home() / ".cache/ixt/objects")
            opened = remote.open_s3 if parts.scheme == "s3" else remote.open_gcs
            with remote.variables_of(secret):
                return ObjectStore(uri, opened(uri, bucket, prefix), cache)
    raise StoreError(
        f"storage URI {uri!r} is not understood",
        "use file:///folder, pvc://claim/folder, s3://bucket/prefix or gs://bucket/prefix",
    )


def open_storage(uri: str) -> Store:
    """The store of a run's artifacts, with signed documents where $IXT_SIGNING_KEY is set."""
    store = open_store(uri)
    key = os.environ.get(SIGNING_KEY)
    if key is None:
        return store
    if len(key) < LEAST_KEY:
        raise StoreError(
            f"the key that documents in {uri} are signed with has less than {LEAST_KEY} characters",
            "make one by: openssl rand -hex 32",
        )
    return SignedStore(store, key)


def _prefix(folder: str) -> str:
    return check_path(folder) if folder else ""


def _local(uri: str, host: str, path: str) -> Path:
    folder = Path(unquote(path))
    if host or not folder.is_absolute() or ".." in folder.parts or folder == Path("/"):
        raise StoreError(f"storage URI {uri!r} does not name a folder", "write file:///absolute/folder")
    return folder


def _mounted(uri: str, claim: str) -> Path:
    if not _VOLUME_CLAIM.fullmatch(claim):
        raise StoreError(f"storage URI {uri!r} does not name a volume claim", "write pvc://claim/folder")
    root = os.environ.get("IXT_PVC_ROOT")
    if not root:
        raise StoreError(
            f"{uri} can be opened only where the claim is mounted",
            "run inside the cluster, or set IXT_PVC_ROOT to the folder that holds the claim's mount",
        )
    mount = Path(root, claim)
    if not mount.is_dir():
        raise NotFound(f"{uri} is not mounted at {mount}", "mount the volume claim there, or make the folder")
    return mount
