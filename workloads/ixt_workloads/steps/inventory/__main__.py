"""The Inventory step: pin, lay out, answer."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Probe, resolve
from ixt_workloads.contract.keys import key_of, preimage
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.steps import InventoryConfig
from ixt_workloads.step import Step, main
from ixt_workloads.steps.inventory.pins import pins_of
from ixt_workloads.steps.inventory.sources import SourceFile, documents, files_of
from ixt_workloads.store import committed
from ixt_workloads.store.marks import mark

MOST_DROPPED_PERCENT = 50


def run(step: Step) -> Result:
    """Pin the stage's inputs, lay its documents out unless that is done, say which steps are committed."""
    config: InventoryConfig = step.config
    step.store.probe()
    files = {dataset.name: files_of(dataset) for dataset in config.datasets}
    pins = pins_of(config, files)
    image = preimage(config, {"datasets": pins["datasets"]})
    key = key_of(image)
    probe = step.task.probe or Probe(nodes=())
    keyed = resolve(probe.nodes, {**step.task.pins, **pins}, probe.known)
    keys = [keyed[node.name].key for node in probe.nodes]
    mark(step.store, step.task.run_uid, {key, *keys, *probe.known.values()})
    cached = committed(step.store, key)
    summary = {} if cached else _lay_out(step, config, files, key, image)
    found = tuple(place for place, name in enumerate(keys) if committed(step.store, name))
    said = f"{summary['documents']:,} documents, {summary['duplicates']:,} duplicates" if summary else ""
    return Result(
        outcome=Outcome.CACHED if cached else Outcome.COMMITTED,
        key=key,
        message=said,
        pins=pins,
        committed=found,
        metrics={"documents": summary["documents"]} if summary else {},
    )


def _lay_out(
    step: Step, config: InventoryConfig, files: dict[str, list[SourceFile]], key: str, image: dict[str, Any]
) -> dict[str, Any]:
    from ixt_workloads.steps.inventory.shards import RANGE_BYTES, Spill, files_of_artifact

    size = sum(file.path.stat().st_size for found in files.values() for file in found)
    dropped: Counter[str] = Counter()
    writer = step.writer(key, image)
    with tempfile.TemporaryDirectory(prefix="ixt-inventory-") as folder:
        # Compressed files grow when read: three times is common for text.
        spill = Spill(Path(folder), min(512, 1 + 3 * size // RANGE_BYTES), config.holdout_documents)
        for dataset in config.datasets:
            for file in files[dataset.name]:
                for raw in documents(dataset, file, config.existing, dropped):
                    spill.add(raw, dataset.weight)
                    if spill.found % 1000 == 0:
                        step.reporter.update(spill.found, None, "documents", f"reading {file.name}")
        _check(config, spill.found, dropped)
        summary = spill.write(writer.add)
    summary |= {
        "dropped": dict(sorted(dropped.items())),
        "chat": any(dataset.messages_field for dataset in config.datasets),
    }
    step.reporter.update(spill.found, spill.found, "documents")
    writer.commit(summary, files_of_artifact(summary["shards"]))
    return summary


def _check(config: InventoryConfig, found: int, dropped: Counter[str]) -> None:
    lost = sum(dropped.values())
    names = ", ".join(dataset.name for dataset in config.datasets)
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    if not found:
        raise StepError(
            Exit.DATA,
            f"no usable document in {names}{f': {counts}' if counts else ''}",
            "check textField and the files of the datasets",
        )
    if 100 * lost > MOST_DROPPED_PERCENT * (found + lost):
        raise StepError(
            Exit.DATA,
            f"{lost} of {found + lost} documents of {names} cannot be used: {counts}",
            "more than half: this looks like the wrong field, format or encoding",
        )


if __name__ == "__main__":
    main(run)
