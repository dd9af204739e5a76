"""Storage: files under one URI, artifacts that are written once, and claims on those being made."""

from ixt_workloads.store.artifact import Artifact, ArtifactWriter, committed
from ixt_workloads.store.base import ObjectInfo, Store
from ixt_workloads.store.claim import Claim, Holder
from ixt_workloads.store.errors import (
    ContentMismatch,
    FileTooLarge,
    Incomplete,
    InvalidPath,
    NotFound,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreUnavailable,
)
from ixt_workloads.store.manifest import Manifest
from ixt_workloads.store.opening import open_store

__all__ = [
    "Artifact",
    "ArtifactWriter",
    "Claim",
    "ContentMismatch",
    "FileTooLarge",
    "Holder",
    "Incomplete",
    "InvalidPath",
    "Manifest",
    "NotFound",
    "ObjectInfo",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreNotWritable",
    "StoreUnavailable",
    "committed",
    "open_store",
]
