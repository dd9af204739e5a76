"""How a model is served by vLLM: replicas, and the options that a run may set and those that it may not."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ixt_operator.api.rules import Checked, Rule
from ixt_workloads.contract.base import Gpus

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

TELLING = (
    "dtype",
    "hf-overrides",
    "kv-cache-dtype",
    "max-model-len",
    "quantization",
    "reasoning-config",
    "tokenizer-mode",
)
"""Those of them that change what a judge says. The others change how fast it says it."""

OURS, CUT_OFF = "is set by ixt", "keeps ixt from reaching the judge"

REFUSED = {
    "loads code": """
        *-cls *-plugin *-plugins additional-config compilation-config
        distributed-executor-backend ec-* io-processor-plugin kv-offloading-backend
        kv-transfer-* logits-processors middleware model-class-overrides
        model-loader-extra-config reasoning-parser-plugin scheduler-cls tool-parser-plugin
        trust-remote-code weight-transfer-* worker-cls worker-extension-cls
    """,
    "loads another model": """
        default-mm-loras enable-lora lora-* spec-* speculative-*
    """,
    "reads or writes files": """
        allowed-local-media-path chat-template config download-dir hf-config-path
        log-config-file logging-config mm-encoder-fp8-* profiler-* ray-workers-use-nsight
    """,
    "talks to other servers": """
        allowed-media-domains collect-detailed-traces data-parallel-address
        data-parallel-backend data-parallel-rpc-port hf-token kv-events-* master-addr
        master-port nnodes node-rank otlp-* tool-server
    """,
    "lets clients do more": """
        allow-credentials allowed-headers allowed-methods allowed-origins
        data-parallel-multi-port-external-lb data-parallel-supervisor-port enable-elastic-ep
        enable-fault-tolerance enable-mm-embeds enable-prompt-embeds enable-scale-out
        enable-tokenizer-info-endpoint trust-request-*
    """,
    CUT_OFF: """
        api-key enable-ssl-refresh grpc* headless host port root-path ssl-* tokens-only uds
    """,
    OURS: """
        code-revision disable-uvicorn-access-log enable-prompt-tokens-details
        generation-config load-format model override-generation-config reasoning-parser
        revision served-model-name structured-outputs-config tensor-parallel-size tokenizer
        tokenizer-revision
    """,
}
"""Options that a run may not set, by what they do; `*` stands for anything."""


def option(argument: str) -> str:
    """The name of the option that an argument sets, as vLLM reads it: `_` is `-`; a leading no-, the key in a
    JSON option and the value are no part of it."""
    name = argument.removeprefix("--").partition("=")[0].partition(".")[0]
    return name.replace("_", "-").removeprefix("no-")


def telling(arguments: Sequence[str]) -> tuple[str, ...]:
    """The options among a judge's that may change what it says: those of which it is known, and all that are
    not known. Their order makes no difference, but for which of two that are the same comes last."""
    last = {option(argument): argument for argument in arguments}
    known = {*ENGINE_ARGUMENTS} - {*TELLING}
    return tuple(argument for name, argument in sorted(last.items()) if name not in known)


def refusal(argument: str) -> str:
    """Why a run may not set an option, or nothing. vLLM takes the beginning of a name for the name."""
    name = option(argument)
    if name in ENGINE_ARGUMENTS:
        return ""
    refused = [(pattern, why) for why, patterns in REFUSED.items() for pattern in patterns.split()]
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


class Engine(Checked):
    """How a model is served by vLLM."""

    min_replicas: Annotated[int, Field(ge=1, le=1024)] = 1
    """Servers at least."""
    max_replicas: Annotated[int, Field(ge=1, le=1024)] = 1
    """Servers at most. Between the two, their number follows backlog, rate and annotate.deadlineSeconds."""
    tensor_parallel_size: Gpus = 1
    """GPUs that share one copy of the model. Auto: those that its pod asks for, or 1."""
    args: Annotated[tuple[EngineArgument, ...], Field(max_length=64)] = ()
    """More options for vLLM, each as --name or --name=value, for example --max-model-len=8192."""

    rules = (
        Rule(
            "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            "minReplicas must be at most maxReplicas",
            lambda self: self.min_replicas <= self.max_replicas,
            "minReplicas",
        ),
    )
