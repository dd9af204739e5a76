"""Storage: files under one URI, artifacts that are written once, and claims on those being made.

The kinds of StoreError are in `errors`.
"""

from ixt_workloads.store.artifact import Artifact, ArtifactWriter, committed
from ixt_workloads.store.base import Store
from ixt_workloads.store.claim import Claim
from ixt_workloads.store.errors import NotFound, StoreError
from ixt_workloads.store.opening import open_storage, open_store

__all__ = [
    "Artifact",
    "ArtifactWriter",
    "Claim",
    "NotFound",
    "Store",
    "StoreError",
    "committed",
    "open_storage",
    "open_store",
]
