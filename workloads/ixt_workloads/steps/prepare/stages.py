"""Held out means held out, over all stages of a run: by a document's id, the hash of its content."""

from collections.abc import Iterable, Set

import pyarrow as pa
import pyarrow.compute as pc

from ixt_workloads.data.parquet import table_of
from ixt_workloads.store import Artifact


def held_out(earlier: Iterable[Artifact]) -> frozenset[str]:
    """Ids of the documents that the Inventories of earlier stages hold out: no later stage trains on them."""
    tables = (table_of(inventory.file("holdout.parquet"), ["id"]) for inventory in earlier)
    return frozenset(name for table in tables for name in table["id"].to_pylist())


def trained_on(earlier: Iterable[Artifact], ids: Set[str]) -> set[str]:
    """Those of the ids that earlier stages have among their documents for training. Of these only ids are
    read, a file at a time."""
    wanted = pa.array(sorted(ids), pa.string())
    found: set[str] = set()
    for inventory in earlier:
        for path in inventory.paths:
            if path.startswith("docs-"):
                names = table_of(inventory.file(path), ["id"])["id"]
                found.update(names.filter(pc.is_in(names, wanted)).to_pylist())
    return found
