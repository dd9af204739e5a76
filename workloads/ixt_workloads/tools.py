"""What `ixt` needs of a storage: `python -m ixt_workloads.tools fetch|gc`."""

import argparse
import shutil
import sys
from datetime import timedelta
from pathlib import Path

from ixt_workloads.store import Artifact, StoreError, open_store
from ixt_workloads.store.gc import plan_gc, sweep


def main() -> int:
    """Run one verb; 0 when done, 1 with a message otherwise."""
    parser = argparse.ArgumentParser(prog="ixt_workloads.tools", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch", help="copy an artifact's files into a folder, each checked")
    fetch.add_argument("storage")
    fetch.add_argument("key")
    fetch.add_argument("folder", type=Path)
    garbage = verbs.add_parser("gc", help="list or delete what no run refers to")
    garbage.add_argument("storage")
    garbage.add_argument("--older-than-days", type=int, default=14)
    garbage.add_argument("--delete", action="store_true")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "fetch":
            _fetch(arguments.storage, arguments.key, arguments.folder)
        else:
            _gc(arguments.storage, timedelta(days=arguments.older_than_days), arguments.delete)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _fetch(storage: str, key: str, folder: Path) -> None:
    artifact = Artifact.open(open_store(storage), key)
    for entry in artifact.manifest.files:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.file(entry.path), target)


def _gc(storage: str, older_than: timedelta, delete: bool) -> None:
    store = open_store(storage)
    planned = plan_gc(store, older_than)
    found = list(sweep(store, planned)) if delete else planned
    for entry in found:
        print(f"{entry.kind:9} {entry.size:>14,} bytes  {entry.path}")
    total = sum(entry.size for entry in found)
    print(f"{'deleted' if delete else 'would delete'} {len(found)} entries, {total:,} bytes")
    if found and not delete:
        print("nothing was deleted: say --delete to do it")


if __name__ == "__main__":
    sys.exit(main())
