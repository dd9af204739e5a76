"""The process of an Inventory: pins what a stage reads, and lays its documents out in shards."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.results import Result
from ixt_workloads.data.memory import bounded
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.inventory.dry import dry_load
from ixt_workloads.steps.inventory.files import FilesOfDatasets, files_of
from ixt_workloads.steps.inventory.pins import pins_of
from ixt_workloads.steps.inventory.sources import Prompts, documents
from ixt_workloads.store import Artifact, ArtifactWriter
from ixt_workloads.store.errors import from_os_error

if TYPE_CHECKING:
    from ixt_workloads.steps.inventory.spill import Spill

MOST_DROPPED_PERCENT = 50
LEFT_OUT_SHOWN = 5


def run(step: Step) -> Result:
    """Pin the stage's inputs, lay its documents out unless that is done, say which steps are committed."""
    config: InventoryConfig = step.config
    step.reporter.update(0, None, "documents", "looking at the data")
    step.store.probe()
    found = {dataset.name: files_of(dataset) for dataset in config.datasets}
    files = {name: each.read for name, each in found.items()}
    pins = pins_of(config, files)
    told = [_left_out(name, each.left_out) for name, each in found.items() if each.left_out]
    result = step.pinned(
        pins,
        lambda nodes: told.extend(dry_load(config, files, nodes)),
        lambda writer: _lay_out(step, files, writer),
    )
    summary = Artifact.open(step.store, result.key).summary
    return result.model_copy(update={"message": "; ".join([_sentence(summary), *told])})


def _lay_out(step: Step, files: FilesOfDatasets, writer: ArtifactWriter) -> None:
    # Imported here: pyarrow is not needed for a stage that is laid out already.
    from ixt_workloads.steps.inventory.spill import (
        COLUMNS,
        PROMPT_COLUMNS,
        Spill,
        files_of_artifact,
        ranges_for,
    )

    config: InventoryConfig = step.config
    size = sum(file.most_bytes for found in files.values() for file in found)
    dropped: Counter[str] = Counter()
    try:
        with tempfile.TemporaryDirectory(prefix="ixt-inventory-") as folder:
            columns = PROMPT_COLUMNS if config.rollout else COLUMNS
            spill = Spill(Path(folder), ranges_for(size), config.holdout_documents, columns)
            _read(step, files, spill, dropped)
            _check(config, spill, dropped)
            summary = spill.write(writer.add)
    except OSError as error:
        # Errors of datasets and of the storage are no OSErrors any more.
        raise from_os_error(error, f"temporary files in {tempfile.gettempdir()} (TMPDIR)") from None
    wanted = config.holdout_documents if config.rollout and config.verifier else 0
    if wanted and not summary["holdout"]:
        raise StepError(
            Exit.DATA,
            f"none of {summary['documents']:,} prompts can be held out: at most a tenth of them is",
            "give the stage more prompts, or set evaluate.holdoutDocuments to 0",
        )
    summary |= {
        "dropped": dict(sorted(dropped.items())),
        "chat": config.is_chat,
    }
    writer.commit(summary, files_of_artifact(summary["shards"]))


def _read(step: Step, files: FilesOfDatasets, spill: "Spill", dropped: Counter[str]) -> None:
    config: InventoryConfig = step.config
    prompts = Prompts.of(config)
    with bounded():
        for dataset in config.datasets:
            for file in files[dataset.name]:
                for raw in documents(dataset, file, config.existing, dropped, prompts):
                    spill.add(raw, dataset.weight)
                    if spill.found % 1000 == 0:
                        step.reporter.update(spill.found, None, "documents", f"reading {file.name}")
    step.reporter.update(spill.found, spill.found, "documents", "sorting")


def _check(config: InventoryConfig, spill: "Spill", dropped: Counter[str]) -> None:
    """Raise StepError when too little of what was read can be used, or none of it has the feedback."""
    lost = dropped.total()
    what, fields = ("prompt", "promptField, answerField") if config.rollout else ("document", "textField")
    names = ", ".join(dataset.name for dataset in config.datasets)
    if not spill.found:
        raise StepError(
            Exit.DATA,
            f"no usable {what} in {names}{f': {_listed(dropped)}' if lost else ''}",
            f"check {fields} and the files of the datasets",
        )
    if 100 * lost > MOST_DROPPED_PERCENT * (spill.found + lost):
        raise StepError(
            Exit.DATA,
            f"{lost} of {spill.found + lost} {what}s of {names} cannot be used: {_listed(dropped)}",
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
                    f"check annotate.from.{setting}, or annotate.referenceField",
                )


def _left_out(dataset: str, names: list[str]) -> str:
    """A line for the status about files that are not read."""
    some = ", ".join(names[:LEFT_OUT_SHOWN]) + (", …" if len(names) > LEFT_OUT_SHOWN else "")
    return f"{len(names):,} files of {dataset} are of no known format and left out ({some})"


def _sentence(summary: dict[str, Any]) -> str:
    dropped = Counter(summary["dropped"])
    lost = f", {dropped.total():,} dropped ({_listed(dropped)})" if dropped else ""
    kept = f"{summary['documents']:,} documents, {summary['holdout']:,} more held out"
    return f"{kept}, {summary['duplicates']:,} duplicates{lost}"


def _listed(dropped: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))


if __name__ == "__main__":
    main(run)
