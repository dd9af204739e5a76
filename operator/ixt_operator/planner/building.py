"""Nodes to children: what a step's processes are called, run and may use. Pure."""

import hashlib
import json
from collections.abc import Iterator

from ixt_operator.api.run import IXTRun, RunSpec, Stage
from ixt_operator.api.runtime import IXTRuntime, Role
from ixt_operator.planner.child import Child, ChildKind
from ixt_operator.planner.keying import question_of
from ixt_operator.planner.nodes import judge_node
from ixt_operator.planner.spec import judge_of, storage_uri
from ixt_workloads.contract.configs import AnnotateConfig, PrepareConfig, StepConfig, TrainConfig
from ixt_workloads.contract.credentials import secrets_of
from ixt_workloads.contract.graph import Keyed, Node, Probe, Task

PROGRESS_PORT = 8080
HTTP_PORT = 8000
RENDEZVOUS_PORT = 29500
JUDGE_READY_SECONDS = 1800
"""Weights of a large judge take long to read; a judge that cannot start ends by itself much earlier."""

JUDGE_DRAIN_SECONDS = 45
"""A judge that is to stop may finish what it was asked so long."""

JUDGE_STOP_SECONDS = 15

ROLES = {
    "Inventory": Role.WORKER,
    "Annotate": Role.WORKER,
    "Prepare": Role.WORKER,
    "Train": Role.TRAINER,
    "Evaluate": Role.EVALUATOR,
    "Report": Role.WORKER,
}


def child_name(run: IXTRun, node: str, step: str, key: str, attempt: int) -> str:
    """`<run>-<stage>-<step>-<hash>-<attempt>`: a DNS label that starts with a letter, as Services want it, of
    at most 52 characters for attempts of up to five digits."""
    name = run.metadata.name.replace(".", "-")
    owner = (name if name[0].isalpha() else f"r{name}")[:16].rstrip("-")
    stage = f"{node.partition('/')[0][:10].rstrip('-')}-" if "/" in node else ""
    digest = hashlib.sha256(f"{run.metadata.uid}/{node}/{key}".encode()).hexdigest()[:8]
    return f"{owner}-{stage}{step}-{digest}-{attempt}"


def inventory_child(
    run: IXTRun, runtime: IXTRuntime, stage: Stage, probe: Probe, pins: dict[str, str], attempt: int
) -> Child:
    """The child that pins a stage; its key stands for its whole question (see `Asked`)."""
    node = probe.nodes[0]
    task = Task(
        name=node.name,
        config=node.config,
        pins=pins,
        attempt=attempt,
        **_place(run),
        indexes=1,
        probe=probe,
    )
    return _tasks(run, runtime, stage, node, question_of(probe, pins), task)


def step_child(
    run: IXTRun,
    runtime: IXTRuntime,
    stage: Stage,
    keyed: Keyed,
    pins: dict[str, str],
    attempt: int,
    judge: str | None = None,
) -> Child:
    """The child that makes a node's artifact; `judge` names the server that an annotation talks to."""
    task = Task(
        name=keyed.node.name,
        config=keyed.node.config,
        key=keyed.key,
        preimage=keyed.preimage,
        inputs=keyed.inputs,
        pins=pins,
        attempt=attempt,
        **_place(run),
        indexes=_indexes(keyed.node, stage),
    )
    child = _tasks(run, runtime, stage, keyed.node, keyed.key, task)
    update: dict[str, object] = {}
    if judge:
        update["servers"] = {"JUDGE": judge}
    endpoint = run.spec.judge.endpoint if run.spec.judge else None
    if isinstance(keyed.node.config, AnnotateConfig) and keyed.node.config.judge and endpoint:
        update["env"] = {**child.env, "IXT_ENDPOINT_URL": endpoint.url}
        if reference := endpoint.api_key_secret_ref:
            update["secret_env"] = {"IXT_ENDPOINT_API_KEY": (reference.name, reference.key)}
    if isinstance(keyed.node.config, TrainConfig):
        update["ports"] = {**child.ports, "rendezvous": RENDEZVOUS_PORT}
        update["grace_seconds"] = 120
        if stage.train.resources_per_node:
            update["resources"] = stage.train.resources_per_node.model_dump(exclude_defaults=True)
    return child.model_copy(update=update)


def judge_child(
    run: IXTRun, runtime: IXTRuntime, stage: Stage, key: str, replicas: int, attempt: int
) -> Child:
    """The server that reads a stage's documents."""
    spec, judge = run.spec.judge, judge_of(run)
    if spec is None or judge is None:
        raise ValueError("a run without a judge has no judge server")
    node = judge_node(stage.name)
    task = Task(
        name=node,
        config=AnnotateConfig(judge=judge),
        attempt=attempt,
        **_place(run),
        indexes=replicas,
    )
    arguments = [*runtime.spec.engine_args, *spec.engine.args]
    if spec.engine.tensor_parallel_size > 1:
        arguments += ["--tensor-parallel-size", str(spec.engine.tensor_parallel_size)]
    return Child(
        name=child_name(run, node, "judge", key, attempt),
        kind=ChildKind.SERVER,
        role=Role.JUDGE,
        node=node,
        key=key,
        attempt=attempt,
        argv=_command(runtime, Role.JUDGE, "ixt_workloads.steps.annotate.server"),
        task=task,
        indexes=replicas,
        ports={"http": HTTP_PORT},
        ready_path="/health",
        ready_seconds=JUDGE_READY_SECONDS,
        drain=(
            *_command(runtime, Role.JUDGE, "ixt_workloads.steps.annotate.drain"),
            str(JUDGE_DRAIN_SECONDS),
        ),
        env={"IXT_ENGINE_ARGS": json.dumps(arguments)},
        secrets=_secrets(run),
        credentials=credentials(run, task.config),
        claims=claims(run),
        grace_seconds=JUDGE_DRAIN_SECONDS + JUDGE_STOP_SECONDS,
        overrides=_overrides(run, Role.JUDGE),
    )


def tool_child(run: IXTRun, name: str, command: tuple[str, ...]) -> Child:
    """A child that is no step: a command beside the run's storage, with the run's credentials."""
    return Child(
        name=name,
        kind=ChildKind.TASKS,
        role=Role.WORKER,
        node="tool",
        key="",
        attempt=0,
        argv=command,
        secrets=_secrets(run),
        claims=claims(run),
        overrides=_overrides(run, Role.WORKER),
    )


def claims(run: IXTRun) -> tuple[str, ...]:
    """Volume claims that the run's URIs name, in order."""
    return tuple(
        sorted({uri.removeprefix("pvc://").split("/")[0] for uri in _uris(run) if uri.startswith("pvc:")})
    )


def _uris(run: IXTRun) -> Iterator[str]:
    spec = run.spec
    yield spec.storage.uri
    yield from (uri for uri in (spec.model.source, spec.model.config, spec.model.tokenizer) if uri)
    if spec.judge and spec.judge.model:
        yield spec.judge.model
    for stage in spec.stages:
        yield from (dataset.uri for dataset in stage.datasets)
        yield from (task.uri for task in stage.evaluate.tasks)


def _place(run: IXTRun) -> dict[str, str]:
    return {"storage": storage_uri(run), "run": run.metadata.name, "run_uid": run.metadata.uid}


def _tasks(run: IXTRun, runtime: IXTRuntime, stage: Stage, node: Node, key: str, task: Task) -> Child:
    step = node.kind.lower()
    role = ROLES[node.kind]
    return Child(
        name=child_name(run, node.name, step, key, task.attempt),
        kind=ChildKind.TASKS,
        role=role,
        node=node.name,
        key=key,
        attempt=task.attempt,
        argv=_command(runtime, role, f"ixt_workloads.steps.{step}"),
        task=task,
        indexes=task.indexes,
        ports={"progress": PROGRESS_PORT},
        secrets=_secrets(run),
        credentials=credentials(run, task.config),
        claims=claims(run),
        overrides=_overrides(run, role),
    )


def _indexes(node: Node, stage: Stage) -> int:
    match node.config:
        case AnnotateConfig():
            return stage.annotate.workers
        case PrepareConfig():
            return stage.prepare.workers
        case TrainConfig():
            return stage.train.num_nodes
        case _:
            return 1


def _command(runtime: IXTRuntime, role: Role, module: str) -> tuple[str, ...]:
    """Our own module for the step, behind what the runtime puts before it."""
    entry = runtime.spec.role(role)
    return (*(entry.command if entry else ()), "python", "-m", module)


def _secrets(run: IXTRun) -> tuple[str, ...]:
    reference = run.spec.storage.credentials_secret_ref
    return (reference.name,) if reference else ()


def credentials(run: IXTRun, places: StepConfig | RunSpec) -> tuple[str, ...]:
    """Secrets of the places that are read, without the storage's, which every child has anyway."""
    return tuple(sorted(secrets_of(places) - {*_secrets(run)}))


def _overrides(run: IXTRun, role: Role) -> dict[str, object]:
    pods = getattr(run.spec.pods, role.lower()) if run.spec.pods else None
    return pods.model_dump(mode="json", exclude_defaults=True) if pods else {}
