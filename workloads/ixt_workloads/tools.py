"""What `ixt` needs of storages and models: `python -m ixt_workloads.tools VERB …`."""

import argparse
import base64
import gzip
import shutil
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ixt_workloads.contract.compared import CompareQuestion
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.exported import EvalQuestion, ExportQuestion, SampleQuestion
from ixt_workloads.contract.graph import DOES_NOT_FIT, PlanQuestion
from ixt_workloads.contract.looked import LookQuestion
from ixt_workloads.plan import plan
from ixt_workloads.store import Artifact, StoreError, committed, open_storage
from ixt_workloads.store.errors import from_os_error
from ixt_workloads.store.gc import plan_gc, sweep

ASKED = {
    "plan": "tell what a run costs and takes",
    "look": "look at data and models",
    "export": "export a trained model",
    "sample": "let a trained model write",
    "compare": "report the lanes of several runs together",
    "eval": "ask a trained model tasks of lm-evaluation-harness",
}
"""Verbs with a question."""


def main() -> int:
    """Run one verb; 0 when done, else 1 (or DOES_NOT_FIT) with a message."""
    # Nothing here is left half done by it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
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
    for verb, told in ASKED.items():
        asked = verbs.add_parser(verb, help=told)
        asked.add_argument("--question", help="the question in base64; without it, standard input has it")
    arguments = parser.parse_args()
    try:
        match arguments.verb:
            case "fetch":
                _fetch(arguments.storage, arguments.key, arguments.folder)
            case "show":
                file = Artifact.open(open_storage(arguments.storage), arguments.key).file(arguments.file)
                print(base64.encodebytes(gzip.compress(file.read_bytes(), mtime=0)).decode(), end="")
            case "committed":
                store = open_storage(arguments.storage)
                print(*(key for key in arguments.key if committed(store, key)), sep="\n")
            case "gc":
                _gc(arguments.storage, timedelta(days=arguments.older_than_days), arguments.delete)
            case verb:
                asked = arguments.question
                question = base64.b64decode(asked).decode() if asked else sys.stdin.read()
                for line in _answers(verb, question):
                    print(line)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    except StepError as error:
        print("; ".join(filter(None, (error.message, error.hint))), file=sys.stderr)
        return DOES_NOT_FIT if error.code is Exit.OUT_OF_MEMORY else 1
    return 0


def _answers(verb: str, question: str) -> Iterator[str]:
    """The lines that answer a question."""
    match verb:
        case "plan":
            yield from plan(PlanQuestion.model_validate_json(question))
        case "look":
            # Imported here, as below: its libraries take a while.
            from ixt_workloads.look import look

            yield look(LookQuestion.model_validate_json(question)).model_dump_json()
        case "export":
            from ixt_workloads.export import export

            yield export(ExportQuestion.model_validate_json(question))
        case "sample":
            from ixt_workloads.sampling import sample

            yield from sample(SampleQuestion.model_validate_json(question))
        case "compare":
            from ixt_workloads.compare import compare

            yield compare(CompareQuestion.model_validate_json(question))
        case "eval":
            from ixt_workloads.harness.again import evaluate

            yield from evaluate(EvalQuestion.model_validate_json(question))


def _fetch(storage: str, key: str, folder: Path) -> None:
    """Copy an artifact's files. The folder appears once all are there, so one that exists is whole."""
    artifact = Artifact.open(open_storage(storage), key)
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
    store = open_storage(storage)
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
