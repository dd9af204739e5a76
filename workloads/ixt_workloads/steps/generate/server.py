"""The policy's server: shows the policy's files in one folder, then becomes vLLM's OpenAI server."""

import tempfile
from pathlib import Path
from typing import NoReturn

from ixt_workloads.contract.configs import GenerateConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.data.folders import check_folder
from ixt_workloads.data.locate import local_folder
from ixt_workloads.data.pinned import check_model
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.annotate.server import become_server, check_room, extra_arguments, setting


def run(step: Step) -> NoReturn:
    """Check the task's policy and replace this process by its server."""
    config: GenerateConfig = step.config
    folder, extra = policy_folder(step), extra_arguments()
    check_folder(folder, "policy", weights=True, tokenizer=True)
    context = setting(extra, "--max-model-len")
    check_room(folder, "policy", config.generation.max_tokens, "rollout.maxTokens", context)
    become_server(folder, "policy", extra)


def policy_folder(step: Step) -> Path:
    """A folder with the policy's files, which stays: the engine reads it once this process is the engine."""
    if "policy" in step.task.inputs:
        folder = Path(tempfile.mkdtemp(prefix="ixt-policy-"))
        step.input("policy").link_into(folder)
        return folder
    model = step.config.model
    if model.source is None:
        raise StepError(Exit.USAGE, f"{step.task.node} has no policy: neither a source nor an artifact")
    check_model(model, step.task.pins, "model")
    return local_folder(model.source, model.revision, model.credentials_secret_ref)


if __name__ == "__main__":
    main(run)
