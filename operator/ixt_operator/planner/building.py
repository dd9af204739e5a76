"""Children made from nodes: the names, commands, tasks and resources of their processes. Pure."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ixt_operator.api.engine import Engine
from ixt_operator.api.run import IXTRun, RolloutSpec, RunSpec, Stage
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.planner.child import Child
from ixt_operator.planner.keying import question_of
from ixt_operator.planner.spec import serving_of, storage_uri
from ixt_workloads.contract.configs import (
    AnnotateConfig,
    Config,
    GenerateConfig,
    PrepareConfig,
    TrainConfig,
)
from ixt_workloads.contract.credentials import secrets_of
from ixt_workloads.contract.graph import Keyed, Node, OfNode, Probe, Task
from ixt_workloads.contract.keys import key_of
from ixt_workloads.contract.kinds import KINDS, Role

PROGRESS_PORT = 8080
HTTP_PORT = 8000
RENDEZVOUS_PORT = 29500
SERVER_READY_SECONDS = 1800
"""Weights of a large model take long to read; a server that cannot start ends by itself much earlier."""

SERVER_DRAIN_SECONDS = 45
"""A server that is to stop has this long to answer the requests that it has taken."""

SERVER_STOP_SECONDS = 15

DRAIN = "ixt_workloads.steps.annotate.drain"
"""The module that waits until a server of any kind has answered."""


def child_name(run: IXTRun, node: OfNode, key: str, attempt: int) -> str:
    """`<run>-<stage>-<step>-<hash>-<attempt>`: a DNS label that starts with a letter, as Services want it, of
    at most 52 characters for attempts of up to five digits."""
    name = run.metadata.name.replace(".", "-")
    owner = (name if name[0].isalpha() else f"r{name}")[:16].rstrip("-")
    stage = f"{node.stage[:10].rstrip('-')}-" if node.stage else ""
    digest = hashlib.sha256(f"{run.metadata.uid}/{node.node}/{key}".encode()).hexdigest()[:8]
    return f"{owner}-{stage}{node.short}-{digest}-{attempt}"


def inventory_child(
    run: IXTRun, runtime: IXTRuntime, probe: Probe, pins: dict[str, str], attempt: int
) -> Child:
    """The child that pins a stage; its key is the hash of its question (`question_of`)."""
    node = probe.nodes[0]
    task = _task(run, node, node.config, attempt, pins=pins, probe=probe)
    return _step(run, runtime, question_of(probe, pins), task)


def step_child(
    run: IXTRun,
    runtime: IXTRuntime,
    stage: Stage,
    keyed: Keyed,
    pins: dict[str, str],
    attempt: int,
    server: str | None = None,
) -> Child:
    """The child that makes a node's artifact; `server` is the name of the server that it talks to."""
    config, indexes = keyed.node.config, _indexes(keyed.node, stage)
    made_of = {"key": keyed.key, "preimage": keyed.preimage, "inputs": keyed.inputs, "pins": pins}
    task = _task(run, keyed.node, config, attempt, indexes, **made_of)
    more: dict[str, Any] = {}
    serving = KINDS[keyed.node.kind].server
    if server and serving:
        short = serving.short.upper()
        more["servers"], more["api_keys"] = {short: server}, (f"IXT_{short}_API_KEY",)
    if isinstance(config, AnnotateConfig) and config.judge and run.spec.judge:
        asked = {"ENDPOINT": run.spec.judge.endpoint, "SECOND": run.spec.judge.second}
        endpoints = {name: endpoint for name, endpoint in asked.items() if endpoint}
        more["env"] = {f"IXT_{name}_URL": endpoint.url for name, endpoint in endpoints.items()}
        more["secret_env"] = {
            f"IXT_{name}_API_KEY": (reference.name, reference.key)
            for name, endpoint in endpoints.items()
            if (reference := endpoint.api_key_secret_ref)
        }
    if isinstance(config, TrainConfig):
        more["ports"] = {"progress": PROGRESS_PORT, "rendezvous": RENDEZVOUS_PORT}
        more["grace_seconds"] = 120
        if stage.train.resources_per_node:
            more["resources"] = stage.train.resources_per_node.model_dump(exclude_defaults=True)
    return _step(run, runtime, keyed.key, task, **more)


def engine_of(run: IXTRun, node: Node) -> Engine | None:
    """How the server of a node is run; None for a node that talks to no server."""
    if KINDS[node.kind].server is None:
        return None
    if isinstance(node.config, AnnotateConfig):
        judge = run.spec.judge
        return judge.engine if judge and node.config.judge and not judge.endpoint else None
    rollout = _rollout(run, node)
    return rollout.engine if rollout else Engine()


def _rollout(run: IXTRun, node: OfNode) -> RolloutSpec | None:
    return next((stage.rollout for stage in run.spec.stages if stage.name == node.stage), None)


def server_key(run: IXTRun, runtime: IXTRuntime, keyed: Keyed, pins: Mapping[str, str]) -> str:
    """Key of the server that a node talks to. It changes with everything that takes another server, so not
    with the number of replicas."""
    engine = engine_of(run, keyed.node) or Engine()
    served: dict[str, object] = {"inputs": keyed.inputs}
    if isinstance(keyed.node.config, GenerateConfig):
        model = keyed.node.config.model
        served = {"policy": keyed.inputs.get("policy", "")}
        if "policy" not in keyed.inputs:
            place = {"source": model.source, "credentials": sorted(secrets_of(model))}
            served = {"pin": keyed.preimage["inputs"]["model"], **place}
    if isinstance(keyed.node.config, AnnotateConfig) and run.spec.judge:
        judge = run.spec.judge
        served = {
            "pin": pins.get("judge", ""),
            "source": judge.model,
            "credentials": sorted(secrets_of(judge)),
            "parser": judge.reasoning_parser,
        }
    args = [*runtime.spec.engine_args, *engine.args]
    return key_of({**served, "args": args, "tensorParallelSize": engine.tensor_parallel_size})


def server_child(
    run: IXTRun, runtime: IXTRuntime, keyed: Keyed, pins: Mapping[str, str], replicas: int
) -> Child:
    """The server that a node talks to."""
    node = keyed.node
    engine, serving = engine_of(run, node), KINDS[node.kind].server
    assert engine
    assert serving
    config, more = node.config, dict[str, Any]()
    inputs: dict[str, str] = {}
    pinned: dict[str, str] = {}
    if isinstance(config, AnnotateConfig):
        config = AnnotateConfig(judge=config.judge)  # for all parts of the stage
        pinned = {"judge": pins["judge"]} if "judge" in pins else {}
    if isinstance(config, GenerateConfig):
        config = config.model_copy(update={"seed": 0})  # for all lanes that it answers
        inputs = {role: key for role, key in keyed.inputs.items() if role == "policy"}
        pinned = {"model": pins["model"]} if "model" in pins and not inputs else {}
        more["secret_env"] = _signing(run)
        rollout = _rollout(run, node)
        if rollout and rollout.resources:
            more["resources"] = rollout.resources.model_dump(exclude_defaults=True)
    task = _task(run, serving_of(run, node), config, 1, replicas, inputs=inputs, pins=pinned)
    arguments = [*runtime.spec.engine_args, *engine.args]
    if engine.tensor_parallel_size != 1:
        arguments += ["--tensor-parallel-size", str(engine.tensor_parallel_size)]
    module = f"ixt_workloads.steps.{KINDS[node.kind].short}"
    return _child(
        run,
        serving.role,
        _command(runtime, serving.role, f"{module}.server"),
        server_key(run, runtime, keyed, pins),
        task,
        ports={"http": HTTP_PORT},
        ready_path="/health",
        ready_seconds=SERVER_READY_SECONDS,
        # Without what the runtime puts before commands: a profiler would start once more.
        drain=("python", "-m", DRAIN, str(SERVER_DRAIN_SECONDS)),
        env={"IXT_ENGINE_ARGS": json.dumps(arguments)},
        api_keys=("IXT_API_KEY",),
        grace_seconds=SERVER_DRAIN_SECONDS + SERVER_STOP_SECONDS,
        **more,
    )


def tool_child(run: IXTRun, name: str, command: tuple[str, ...], role: Role = Role.WORKER) -> Child:
    """A child that is no step: a command that uses the run's storage, with the run's credentials."""
    return Child(
        name=name,
        kind="Tool",
        role=role,
        key="",
        attempt=1,
        argv=command,
        secrets=_secrets(run),
        secret_env=_signing(run),
        claims=claims(run),
        patches=patches(run, role),
    )


def claims(run: IXTRun) -> dict[str, bool]:
    """Volume claims that the run's URIs name, in order, and whether it may write there: to its storage's
    alone."""
    own = claim_of(run.spec.storage.uri)
    return {name: name == own for name in sorted(filter(None, map(claim_of, _uris(run))))}


def claim_of(uri: str) -> str:
    """The claim that a URI names; empty for another place."""
    return uri.removeprefix("pvc://").split("/")[0] if uri.startswith("pvc:") else ""


def _uris(run: IXTRun) -> Iterator[str]:
    spec = run.spec
    yield spec.storage.uri
    yield from (uri for uri in (spec.model.source, spec.model.config, spec.model.tokenizer) if uri)
    if spec.judge and spec.judge.model:
        yield spec.judge.model
    for stage in spec.stages:
        yield from (dataset.uri for dataset in stage.datasets)
        yield from (task.uri for task in stage.evaluate.tasks)
        harness = stage.evaluate.harness
        yield from (task.uri for task in (harness.tasks if harness else ()) if task.uri)


def _task(run: IXTRun, of: OfNode, config: Config, attempt: int, indexes: int = 1, **more: Any) -> Task:
    """The task of an attempt at a node, or of a server."""
    return Task(
        **of.fields_of_node(),
        config=config,
        attempt=attempt,
        indexes=indexes,
        storage=storage_uri(run),
        run=run.metadata.name,
        run_uid=run.metadata.uid,
        **more,
    )


def _step(run: IXTRun, runtime: IXTRuntime, key: str, task: Task, **more: Any) -> Child:
    """The child of an attempt at a node."""
    role = KINDS[task.kind].role
    command = _command(runtime, role, f"ixt_workloads.steps.{task.short}")
    secret_env = {**_signing(run), **more.pop("secret_env", {})}
    ports = {"progress": PROGRESS_PORT}
    return _child(run, role, command, key, task, **{"ports": ports, "secret_env": secret_env, **more})


def _child(run: IXTRun, role: Role, command: tuple[str, ...], key: str, task: Task, **more: Any) -> Child:
    """The child of a task, with what every child of a run has."""
    return Child(
        **task.fields_of_node(),
        name=child_name(run, task, key, task.attempt),
        role=role,
        key=key,
        attempt=task.attempt,
        argv=command,
        task=task,
        indexes=task.indexes,
        secrets=_secrets(run),
        credentials=credentials(run, task.config),
        claims=claims(run),
        patches=patches(run, role),
        **more,
    )


def _indexes(node: Node, stage: Stage) -> int:
    match node.config:
        case AnnotateConfig() | GenerateConfig():
            return stage.annotate.workers
        case PrepareConfig():
            return stage.prepare.workers
        case TrainConfig():
            return stage.train.num_nodes
        case _:
            return 1


def _command(runtime: IXTRuntime, role: Role, module: str) -> tuple[str, ...]:
    """The command of a process: what the runtime puts before it, then our module."""
    entry = runtime.spec.role(role)
    return (*(entry.command if entry else ()), "python", "-m", module)


def _secrets(run: IXTRun) -> tuple[str, ...]:
    reference = run.spec.storage.credentials_secret_ref
    return (reference.name,) if reference else ()


def _signing(run: IXTRun) -> dict[str, tuple[str, str]]:
    """Where the key lies that a run's documents are signed with. A judge's server reads none, and does
    not get it."""
    reference = run.spec.storage.signing_key_secret_ref
    return {"IXT_SIGNING_KEY": (reference.name, reference.key)} if reference else {}


def credentials(run: IXTRun, places: Config | RunSpec) -> tuple[str, ...]:
    """Secrets of the places that are read, without the storage's, which every child has."""
    return tuple(sorted(secrets_of(places) - {*_secrets(run)}))


def patches(run: IXTRun, role: Role) -> tuple[dict[str, Any], ...]:
    """The run's patches of the pods of a role, each over those before."""
    both = (run.spec.pods.all, getattr(run.spec.pods, role.lower()))
    dumped = (patch.model_dump(mode="json", exclude_defaults=True) for patch in both)
    return tuple(patch for patch in dumped if patch)
