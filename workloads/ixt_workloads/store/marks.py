"""What a run needs: runs/<uid>.json, from which `gc` knows what it must keep."""

import json
from collections.abc import Collection

from ixt_workloads.store.base import Store


def mark(store: Store, run_uid: str, keys: Collection[str]) -> None:
    """Say that a run needs these artifacts, and of those it named before none but these.

    Written by Inventory before it looks for artifacts, so that none is swept between look and use.
    """
    store.put(f"runs/{run_uid}.json", json.dumps({"keys": sorted(keys)}).encode())
