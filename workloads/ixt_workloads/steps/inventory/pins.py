"""Pins: content hashes of what a stage reads, so that keys follow content and not places."""

from pathlib import Path

from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import EvalTask, Harness, Judge, ModelSource
from ixt_workloads.data.folders import check_folder
from ixt_workloads.data.locate import local_file, local_folder
from ixt_workloads.data.pinned import content, digest, pin_of_folder
from ixt_workloads.data.questions import read_questions
from ixt_workloads.steps.inventory.files import FilesOfDatasets

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "tokenizer.model",
    "additional_chat_templates",
)


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
        pins["tasks"] = digest(_task(task) for task in config.tasks)
    if config.harness:
        pins["harness"] = _harness(config, config.harness)
    if config.judge:
        pins["judge"] = _judge(config.judge)
    if config.model:
        pins |= _model(config.model)
    return pins


def _task(task: EvalTask) -> list[str]:
    # Read here so that a bad line is found before anything is trained.
    read_questions(task)
    return [task.name, content(local_file(task.uri, task.credentials_secret_ref))]


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


def _model(model: ModelSource) -> dict[str, str]:
    secret = model.credentials_secret_ref
    if model.source:
        folder = local_folder(model.source, model.revision, secret, what="model.source")
        check_folder(folder, "model.source", weights=True, tokenizer=True)
        return {"model": pin_of_folder(folder), "tokenizer": _tokenizer(folder, model)}
    if model.config is None or model.tokenizer is None:
        raise StepError(Exit.CONFIG, "model needs source, or config with tokenizer")
    config = local_folder(model.config, secret=secret, what="model.config")
    tokenizer = local_folder(model.tokenizer, secret=secret, what="model.tokenizer")
    check_folder(config, "model.config", weights=False, tokenizer=False)
    check_folder(tokenizer, "model.tokenizer", weights=False, tokenizer=True, config=False)
    return {"model": pin_of_folder(config, ("config.json",)), "tokenizer": _tokenizer(tokenizer, model)}


def _tokenizer(folder: Path, model: ModelSource) -> str:
    found = pin_of_folder(folder, TOKENIZER)
    return digest([[found, model.chat_template]]) if model.chat_template else found
