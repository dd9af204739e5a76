"""`ixt eval`: tasks of the harness for a model that is trained already, kept as an evaluation of its own."""

import json
import sys
from collections.abc import Iterator

import torch

from ixt_workloads import logs
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.exported import EvalQuestion
from ixt_workloads.contract.keys import key_of, preimage
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.harness import HARNESS
from ixt_workloads.harness.sandbox import sandboxed
from ixt_workloads.harness.scores import ask_loaded, table
from ixt_workloads.harness.tasks import loaded
from ixt_workloads.progress import Reporter
from ixt_workloads.store import Artifact, ArtifactWriter, NotFound, committed, open_storage


def evaluate(question: EvalQuestion) -> Iterator[str]:
    """The scores as a table, and where they are kept. What was asked of this model before is not asked again.
    Raises StepError."""
    config, store = question.config, open_storage(question.storage)
    try:
        trained = Artifact.open(store, question.train)
    except NotFound:
        raise StepError(
            Exit.NO_INPUT, f"{question.name} is not there yet", "run it to its end first"
        ) from None
    logs.start("warning")
    assert config.evaluate.harness
    with sandboxed(), loaded(config.evaluate.harness, chat=config.stage_type.is_chat) as tasks:
        kind = KINDS[config.kind]
        image = preimage(config, kind.version, {"train": trained.key, "harness": tasks.pin})
        key = key_of(image)
        # What `ixt gc` knows that the run needs.
        store.put(f"runs/{question.run_uid}/eval-{key}.json", json.dumps({"keys": [key]}).encode())
        cached = committed(store, key)
        if not cached:
            print(f"asking {', '.join(tasks.by_name)}", file=sys.stderr)
            found = ask_loaded(trained, tasks, config, Reporter())
            writer = ArtifactWriter(
                store, key, config.kind, image, run=question.run, attempt=1, run_uid=question.run_uid
            )
            for name, data in found.files().items():
                writer.add(name, data)
            summary = {"harness": found.accuracies(), "flops": 0}
            writer.commit(summary, list(found.files()), {"torch": torch.__version__})
    yield from table(Artifact.open(store, key).read_json(HARNESS))
    yield f"{question.name}{' (asked before)' if cached else ''}: {question.storage}/artifacts/{key}"
