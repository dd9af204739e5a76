"""Options of vLLM that a run may set for its judge, and those that it may not."""

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

ENGINE_ARGUMENTS = (
    "all2all-backend",
    "async-scheduling",
    "attention-backend",
    "block-size",
    "config-format",
    "cpu-offload-gb",
    "data-parallel-size",
    "dtype",
    "enable-chunked-prefill",
    "enable-expert-parallel",
    "enable-prefix-caching",
    "enforce-eager",
    "gpu-memory-utilization",
    "hf-overrides",
    "kv-cache-dtype",
    "kv-cache-memory-bytes",
    "max-model-len",
    "max-num-batched-tokens",
    "max-num-seqs",
    "moe-backend",
    "optimization-level",
    "pipeline-parallel-size",
    "quantization",
    "reasoning-config",
    "safetensors-load-strategy",
    "stream-interval",
    "tokenizer-mode",
)
"""The options that ixt knows: speed, memory and precision. Others are passed on with a warning."""

OURS, CUT_OFF = "is set by ixt", "keeps ixt from reaching the judge"

REFUSED = {
    "loads code": (
        *("*-cls", "*-plugin", "*-plugins", "additional-config", "compilation-config"),
        *("distributed-executor-backend", "ec-*", "io-processor-plugin", "kv-offloading-backend"),
        *("kv-transfer-*", "logits-processors", "middleware", "model-class-overrides"),
        *("model-loader-extra-config", "reasoning-parser-plugin", "scheduler-cls", "tool-parser-plugin"),
        *("trust-remote-code", "weight-transfer-*", "worker-cls", "worker-extension-cls"),
    ),
    "loads another model": (*("default-mm-loras", "enable-lora", "lora-*", "spec-*", "speculative-*"),),
    "reads or writes files": (
        *("allowed-local-media-path", "chat-template", "config", "download-dir", "hf-config-path"),
        *("log-config-file", "logging-config", "mm-encoder-fp8-*", "profiler-*", "ray-workers-use-nsight"),
    ),
    "talks to other servers": (
        *("allowed-media-domains", "collect-detailed-traces", "data-parallel-address"),
        *("data-parallel-backend", "data-parallel-rpc-port", "hf-token", "kv-events-*", "master-addr"),
        *("master-port", "nnodes", "node-rank", "otlp-*", "tool-server"),
    ),
    "lets clients do more": (
        *("allow-credentials", "allowed-headers", "allowed-methods", "allowed-origins"),
        *("data-parallel-multi-port-external-lb", "data-parallel-supervisor-port", "enable-elastic-ep"),
        *("enable-fault-tolerance", "enable-mm-embeds", "enable-prompt-embeds", "enable-scale-out"),
        *("enable-tokenizer-info-endpoint", "trust-request-*"),
    ),
    CUT_OFF: (
        *("api-key", "enable-ssl-refresh", "grpc*", "headless", "host", "port", "root-path", "ssl-*"),
        *("tokens-only", "uds"),
    ),
    OURS: (
        *("code-revision", "disable-uvicorn-access-log", "enable-prompt-tokens-details"),
        *("generation-config", "load-format", "model", "override-generation-config", "reasoning-parser"),
        *("revision", "served-model-name", "structured-outputs-config", "tensor-parallel-size"),
        *("tokenizer", "tokenizer-revision"),
    ),
}
"""Options that a run may not set, by what they do; `*` stands for anything."""


def option(argument: str) -> str:
    """The name of the option that an argument sets, as vLLM reads it: `_` is `-`; a leading no-, the key in a
    JSON option and the value are no part of it."""
    name = argument.removeprefix("--").partition("=")[0].partition(".")[0]
    return name.replace("_", "-").removeprefix("no-")


def refusal(argument: str) -> str:
    """Why a run may not set an option, or nothing. vLLM takes the beginning of a name for the name."""
    name = option(argument)
    if name in ENGINE_ARGUMENTS:
        return ""
    refused = [(pattern, why) for why, patterns in REFUSED.items() for pattern in patterns]
    for pattern, why in refused:
        if fnmatchcase(name, pattern):
            return _told(name, why)
    for pattern, why in refused:
        if pattern.partition("*")[0].startswith(name):
            return _told(pattern, why)
    return ""


def _told(name: str, why: str) -> str:
    administrator = "only an administrator may set it, in the engineArgs of an IXTRuntime"
    return f"--{name} {why}: {'leave it out' if why in (OURS, CUT_OFF) else administrator}"


def _harmless(argument: str) -> str:
    if why := refusal(argument):
        raise PydanticCustomError("refused_option", "{why}", {"why": why})
    return argument


ENGINE_ARGUMENT_PATTERN = r"^--[A-Za-z0-9][-_A-Za-z0-9]*((\.[^=]+)?=.+)?$"

EngineArgument = Annotated[
    str, Field(pattern=ENGINE_ARGUMENT_PATTERN, min_length=3, max_length=1024), AfterValidator(_harmless)
]
"""An option as --name or --name=value. What it may not be only Python asks: the list is vLLM's to change."""
