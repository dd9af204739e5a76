"""What `ixt` needs of a storage: `python -m ixt_workloads.tools fetch|show|committed|gc`."""

import argparse
import base64
import gzip
import shutil
import signal
import sys
from datetime import timedelta
from pathlib import Path

from ixt_workloads.store import Artifact, StoreError, committed, open_store
from ixt_workloads.store.errors import from_os_error
from ixt_workloads.store.gc import plan_gc, sweep


def main() -> int:
    """Run one verb; 0 when done, 1 with a message otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing here is left half done by it
    parser = argparse.ArgumentParser(prog="ixt_workloads.tools", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch", help="copy an artifact's files, each checked, into a new folder")
    fetch.add_argument("storage")
    fetch.add_argument("key")
    fetch.add_argument("folder", type=Path)
    show = verbs.add_parser("show", help="print one file of an artifact, gzipped and in base64")
    show.add_argument("storage")
    show.add_argument("key")
    show.add_argument("file")
    known = verbs.add_parser("committed", help="print those of the keys whose artifacts are committed")
    known.add_argument("storage")
    known.add_argument("key", nargs="+")
    garbage = verbs.add_parser("gc", help="list or delete what no run refers to")
    garbage.add_argument("storage")
    garbage.add_argument("--older-than-days", type=int, default=14)
    garbage.add_argument("--delete", action="store_true")
    arguments = parser.parse_args()
    try:
        match arguments.verb:
            case "fetch":
                _fetch(arguments.storage, arguments.key, arguments.folder)
            case "show":
                file = Artifact.open(open_store(arguments.storage), arguments.key).file(arguments.file)
                print(base64.encodebytes(gzip.compress(file.read_bytes(), mtime=0)).decode(), end="")
            case "committed":
                store = open_store(arguments.storage)
                print(*(key for key in arguments.key if committed(store, key)), sep="\n")
            case "gc":
                _gc(arguments.storage, timedelta(days=arguments.older_than_days), arguments.delete)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _fetch(storage: str, key: str, folder: Path) -> None:
    """Copy an artifact's files. The folder appears once all are there, so one that exists is whole."""
    artifact = Artifact.open(open_store(storage), key)
    part = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        for entry in artifact.manifest.files:
            target = part / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.file(entry.path), target)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        raise from_os_error(error, str(folder)) from error


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
