"""Pins: content hashes of what a stage reads, so that keys follow content and not places."""

from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.settings import Harness, Judge
from ixt_workloads.data.folders import check_folder
from ixt_workloads.data.locate import local_folder
from ixt_workloads.data.pinned import content, digest, pin_of_folder, pin_of_tasks, pins_of_model
from ixt_workloads.data.questions import read_questions
from ixt_workloads.steps.inventory.files import FilesOfDatasets


def pins_of(config: InventoryConfig, files: FilesOfDatasets) -> dict[str, str]:
    """Pins by name: datasets, and those of tasks, harness, judge, model and tokenizer that the stage has.

    Raises StepError for a model folder without config, tokenizer or safetensors weights.
    """
    pins = {
        "datasets": digest(
            [name, file.name, content(file.path)] for name, found in files.items() for file in found
        )
    }
    if config.tasks:
        # Read here so that a bad line is found before anything is trained.
        for task in config.tasks:
            read_questions(task)
        pins["tasks"] = pin_of_tasks(config.tasks)
    if config.harness:
        pins["harness"] = _harness(config, config.harness)
    if config.judge:
        pins["judge"] = _judge(config.judge)
    if config.model:
        pins |= pins_of_model(config.model)
    return pins


def _harness(config: InventoryConfig, harness: Harness) -> str:
    # Imported here: the harness takes seconds. Loaded as they will be, so that what cannot be is found now.
    from ixt_workloads import logs
    from ixt_workloads.harness.sandbox import sandboxed
    from ixt_workloads.harness.tasks import loaded

    logs.take_over()
    with sandboxed(), loaded(harness, chat=config.is_chat) as tasks:
        return tasks.pin


def _judge(judge: Judge) -> str:
    if judge.source is None:
        return f"endpoint:{judge.model}"
    folder = local_folder(judge.source, judge.revision, judge.credentials_secret_ref, what="judge.model")
    check_folder(folder, "judge.model", weights=True, tokenizer=True)
    return pin_of_folder(folder)
