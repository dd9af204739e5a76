"""All manifests of a run at once, as `ixt render` prints them. Pure."""

from collections.abc import Iterator
from typing import Any

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.planner.building import engine_of, inventory_child, server_child, step_child
from ixt_operator.planner.child import Child
from ixt_operator.planner.nodes import resolve_run, stage_nodes
from ixt_operator.render.render import render
from ixt_workloads.contract.graph import Probe
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS

EXAMPLE_PIN = "0" * 64
"""Stands in place of each pin, so keys and names differ from those of a real run."""


def preview(run: IXTRun, runtime: IXTRuntime) -> list[dict[str, Any]]:
    """The manifests of every child of the first attempt, in the order in which they would be created, those
    that several children share once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for child in _children(run, runtime):
        for manifest in render(run, runtime, child):
            found.setdefault((manifest["kind"], manifest["metadata"]["name"]), manifest)
    return list(found.values())


def _children(run: IXTRun, runtime: IXTRuntime) -> Iterator[Child]:
    run = with_example_rubric(run)
    names = ("datasets", "tasks", "harness", "judge", "model", "tokenizer")
    pins = dict.fromkeys(names, EXAMPLE_PIN)
    keyed = resolve_run(run, {stage.name: pins for stage in run.spec.stages})
    for position, stage in enumerate(run.spec.stages):
        nodes = stage_nodes(run, position)
        yield inventory_child(run, runtime, Probe(nodes=nodes), {}, 1)
        for node in nodes[1:]:
            engine, name = engine_of(run, node), None
            if engine:
                server = server_child(run, runtime, keyed[node.name], pins, engine.max_replicas)
                name = server.name
                yield server
            yield step_child(run, runtime, stage, keyed[node.name], pins, 1, name)


def with_example_rubric(run: IXTRun) -> IXTRun:
    """The run with an example in place of a rubric that lies in a ConfigMap, which is not read here."""
    reference = run.rubric_reference
    if reference is None:
        return run
    instructions = f"The rubric in ConfigMap {reference.name}, key {reference.key}."
    return run.with_rubric(BUILTIN_RUBRICS["quality"].model_copy(update={"instructions": instructions}))
