"""The process of an Inventory: pins what a stage reads, and lays its documents out in shards."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Keyed
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.inventory.pins import pins_of
from ixt_workloads.steps.inventory.sources import SourceFile, documents, files_of
from ixt_workloads.store import Artifact, committed
from ixt_workloads.store.errors import from_os_error
from ixt_workloads.store.marks import mark

if TYPE_CHECKING:
    from ixt_workloads.steps.inventory.shards import Spill

MOST_DROPPED_PERCENT = 50


def run(step: Step) -> Result:
    """Pin the stage's inputs, lay its documents out unless that is done, say which steps are committed."""
    config: InventoryConfig = step.config
    step.store.probe()
    files = {dataset.name: files_of(dataset) for dataset in config.datasets}
    pins = pins_of(config, files)
    keyed = step.task.keyed(pins)
    own = keyed[step.task.node]
    mark(step.store, step.task, keyed.values())
    cached = committed(step.store, own.key)
    if not cached:
        _lay_out(step, config, files, own)
    summary = Artifact.open(step.store, own.key).summary
    return Result(
        outcome=Outcome.CACHED if cached else Outcome.COMMITTED,
        key=own.key,
        message=_sentence(summary),
        pins=pins,
        committed=tuple(
            place for place, node in enumerate(keyed.values()) if committed(step.store, node.key)
        ),
        metrics={"documents": summary["documents"]},
    )


def _lay_out(step: Step, config: InventoryConfig, files: dict[str, list[SourceFile]], own: Keyed) -> None:
    # Imported here: pyarrow is not needed for a stage that is laid out already.
    from ixt_workloads.steps.inventory.shards import Spill, files_of_artifact, ranges_for

    size = sum(file.most_bytes for found in files.values() for file in found)
    dropped: Counter[str] = Counter()
    writer = step.writer(own.key, own.preimage)
    try:
        with tempfile.TemporaryDirectory(prefix="ixt-inventory-") as folder:
            spill = Spill(Path(folder), ranges_for(size), config.holdout_documents)
            _read(step, config, files, spill, dropped)
            _check(config, spill, dropped)
            summary = spill.write(writer.add)
    except OSError as error:
        # Errors of datasets and of the storage are no OSErrors any more.
        raise from_os_error(error, f"temporary files in {tempfile.gettempdir()} (TMPDIR)") from None
    summary |= {
        "dropped": dict(sorted(dropped.items())),
        "chat": any(dataset.messages_field for dataset in config.datasets),
    }
    writer.commit(summary, files_of_artifact(summary["shards"]))


def _read(
    step: Step,
    config: InventoryConfig,
    files: dict[str, list[SourceFile]],
    spill: "Spill",
    dropped: Counter[str],
) -> None:
    for dataset in config.datasets:
        for file in files[dataset.name]:
            for raw in documents(dataset, file, config.existing, dropped):
                spill.add(raw, dataset.weight)
                if spill.found % 1000 == 0:
                    step.reporter.update(spill.found, None, "documents", f"reading {file.name}")
    step.reporter.update(spill.found, spill.found, "documents", "sorting")


def _check(config: InventoryConfig, spill: "Spill", dropped: Counter[str]) -> None:
    """Raise StepError when too little of what was read can be used, or none of it has the feedback."""
    lost = dropped.total()
    names = ", ".join(dataset.name for dataset in config.datasets)
    if not spill.found:
        raise StepError(
            Exit.DATA,
            f"no usable document in {names}{f': {_listed(dropped)}' if lost else ''}",
            "check textField and the files of the datasets",
        )
    if 100 * lost > MOST_DROPPED_PERCENT * (spill.found + lost):
        raise StepError(
            Exit.DATA,
            f"{lost} of {spill.found + lost} documents of {names} cannot be used: {_listed(dropped)}",
            "more than half: this looks like the wrong field, format or encoding",
        )
    if config.existing:
        wanted = [("scoreField", config.existing.score_field, spill.scores)]
        if config.existing.critique_field:
            wanted.append(("critiqueField", config.existing.critique_field, spill.critiques))
        for setting, field, found in wanted:
            if not found:
                raise StepError(
                    Exit.DATA,
                    f"none of the {spill.found:,} documents of {names} has anything in the field {field!r}",
                    f"check annotate.from.{setting}",
                )


def _sentence(summary: dict[str, Any]) -> str:
    dropped = Counter(summary["dropped"])
    lost = f", {dropped.total():,} dropped ({_listed(dropped)})" if dropped else ""
    kept = f"{summary['documents']:,} documents, {summary['holdout']:,} more held out"
    return f"{kept}, {summary['duplicates']:,} duplicates{lost}"


def _listed(dropped: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))


if __name__ == "__main__":
    main(run)
