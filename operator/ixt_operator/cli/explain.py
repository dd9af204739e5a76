"""`ixt why` and `ixt diff`: which field caused, or would cause, which step to run again."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from ixt_operator.adapters.local.workdir import newest_keys, read_run, status_in
from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import Failure, RunStatus, StepState
from ixt_operator.cli import artifacts
from ixt_operator.cli.stop import stop
from ixt_operator.planner import history
from ixt_operator.planner.history import Change, Entry
from ixt_operator.planner.nodes import stage_nodes
from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.foreign import plain
from ixt_workloads.contract.graph import PIN, Node, resolve
from ixt_workloads.contract.keys import differences

OPEN = "run? stands for what depends on Inventory's answer; what is committed is not run again"

PinsByStage = dict[str, dict[str, str]]
"""PinsByStage by stage and name."""


def print_why(run: IXTRun, entries: list[Entry], status: RunStatus | None, step: str, where: str) -> None:
    """Print why a step's last attempts failed, and which field gave it its newest key.

    `entries` are the keys that nodes of the run have had, oldest first; `where` names what had them.
    """
    newest, nodes = history.latest(entries), _nodes(run)
    meant = {node.name for stage, node in nodes if node.called(step, stage)}
    told = [failure for failure in (status.failures if status else ()) if failure.step in meant]
    for failure in told:
        typer.echo(failed(failure))
    if told and not meant & newest.keys():
        return  # it has no key yet
    name = _named(step, newest, nodes, where)
    earlier = history.before(entries, name)
    if earlier is None:
        typer.echo(f"{name} has had one key in {where}, {newest[name].key}: nothing caused a re-run")
        return
    old = {entry.node: history.before(entries, entry.node) or entry for entry in newest.values()}
    typer.echo(f"{name}  {earlier.key} -> {newest[name].key}")
    _print(history.causes(name, old, newest, _inputs(nodes)))


def history_of(starts: list[tuple[IXTRun, RunStatus]], status: RunStatus) -> list[Entry]:
    """The keys that a run's nodes have had on a cluster, oldest first.

    `starts`: the run as it was started each time, oldest first, and what had been told of it until then;
    `status`: what is told of it now. Keys are made again of spec and pins. Those that were not told are left
    out: the run was edited before Inventory had answered.
    """
    found: list[Entry] = []
    newest: dict[str, str] = {}
    told = [*(before for _, before in starts[1:]), status]
    for (run, _), then in zip(starts, told, strict=True):
        steps = {(stage, step.name): step for stage, step in then.steps if step.attempt}
        pins, known = PinsByStage(), dict[str, str]()
        for told_stage in then.stages:
            pins[told_stage.name] = known = known | told_stage.pins
        nodes = _nodes(run)
        keys = dict(_entries(nodes, pins))
        first: dict[tuple[str, str], str] = {}
        for stage, node in nodes:
            entry, step = keys.get(node.name), (stage, node.step)
            if entry is None or step not in steps:
                continue
            # The status has the key of the first seed's node.
            was_told = first.setdefault(step, entry.key) == steps[step].key
            if was_told and newest.get(node.name) != entry.key:
                newest[node.name] = entry.key
                found.append(entry)
    return found


def failed(failure: Failure) -> str:
    """A failed attempt in words, with the last lines of its log."""
    lines = [f"{failure.step}  attempt {failure.attempt} failed ({failure.fault}): {failure.message}"]
    lines += [f"           {line}" for line in failure.log_tail.splitlines()]
    return "\n".join(lines)


def print_changes(run: IXTRun, workdir: Path) -> None:
    """Print for every node whether the run would make it, and if again, which change causes that."""
    old = newest_keys(workdir)
    nodes = _nodes(run)
    pins, moved = _pins(run, workdir)
    new = dict(_entries(nodes, pins))
    there = artifacts.committed_keys(run, {entry.key for entry in new.values()})
    inputs = _inputs(nodes)
    for stage, node in nodes:
        name, entry = node.name, new.get(node.name)
        if entry is None:
            typer.echo(f"{'run' if node.kind == 'Inventory' else 'run?':8} {name}")
            _print(moved.get(stage, ()) if node.kind == "Inventory" else ())
        elif entry.key in there:
            typer.echo(f"cached   {name}  {entry.key}")
        elif name in old and old[name].key != entry.key:
            typer.echo(f"run      {name}  {old[name].key} -> {entry.key}")
            _print(history.causes(name, old, new, inputs))
        else:
            typer.echo(f"run      {name}  {entry.key}")
    for name in sorted(old.keys() - inputs.keys()):
        typer.echo(f"gone     {name}  {old[name].key}")
    if len(new) < len(nodes):
        typer.echo(OPEN)


def _nodes(run: IXTRun) -> list[tuple[str, Node]]:
    """All nodes of a run with their stages, inputs before their users."""
    stages = enumerate(run.spec.stages)
    return [(stage.name, node) for place, stage in stages for node in stage_nodes(run, place)]


def _inputs(nodes: list[tuple[str, Node]]) -> dict[str, dict[str, str]]:
    return {node.name: node.inputs for _, node in nodes}


def _pins(run: IXTRun, workdir: Path) -> tuple[PinsByStage, dict[str, list[Change]]]:
    """The pins that still hold, and by stage the changes of the places that were pinned.

    The pins are those that Inventory found when the run was last carried out; they hold where the manifest
    still names the same place.
    """
    status, last = status_in(workdir), read_run(workdir)
    if status is None or last is None:
        return {}, {}
    found: dict[str, str] = {}
    answers: PinsByStage = {}
    for entry in status.stages:
        found = found | entry.pins
        if any(step.kind == "Inventory" and step.state is StepState.COMPLETE for step in entry.steps):
            answers[entry.name] = found
    before, pins, moved = _places(last), PinsByStage(), {}
    known: dict[str, str] = {}
    for stage, places in _places(run).items():
        was, answer = before.get(stage, {}), answers.get(stage, {})
        known = {name: pin for name, pin in known.items() if name not in places}
        for name, place in places.items():
            if place == was.get(name) and name in answer:
                known[name] = answer[name]
        pins[stage] = known
        changed = differences(was, places) if was else ()
        moved[stage] = [Change(f"{stage}/inventory", *change) for change in changed]
    return pins, moved


def _places(run: IXTRun) -> dict[str, dict[str, Any]]:
    """The places that are pinned, by stage and pin: what of the spec says where to find the content."""
    found = {}
    for stage, node in _nodes(run):
        config = node.config
        if not isinstance(config, InventoryConfig):
            continue
        judge, model = config.judge, config.model
        places = {
            "datasets": [{"name": entry.name, "uri": entry.uri} for entry in config.datasets],
            "tasks": [{"name": entry.name, "uri": entry.uri} for entry in config.tasks],
            "harness": config.harness
            and [{"name": entry.name, "uri": entry.uri} for entry in config.harness.tasks],
            "judge": judge and judge.model_dump(include={"source", "revision", "model"}),
            "model": model and model.model_dump(include={"source", "revision", "config"}),
            "tokenizer": model and model.model_dump(include={"source", "revision", "tokenizer"}),
        }
        found[stage] = {name: place for name, place in places.items() if place}
    return found


def _entries(nodes: list[tuple[str, Node]], pins: PinsByStage) -> Iterator[tuple[str, Entry]]:
    """The nodes whose keys follow from the pins."""
    keys: dict[str, str] = {}
    for stage, node in nodes:
        known = pins.get(stage, {})
        if all(name in keys or name.removeprefix(PIN) in known for name in node.inputs.values()):
            keyed = resolve((node,), known, keys)[node.name]
            keys[node.name] = keyed.key
            yield node.name, Entry(node.name, keyed.key, keyed.preimage)


def _print(changes: Iterable[Change]) -> None:
    for change in {(change.node, change.field): change for change in changes}.values():
        absent = "(none)" if change.field.startswith("inputs.") else "(default)"
        old, new = (absent if value is None else _shown(value) for value in (change.old, change.new))
        typer.echo(f"           because {change.field} of {change.node} changed: {old} -> {new}")


def _shown(value: object) -> str:
    text = plain(str(value))
    return text if len(text) <= 100 else f"{text[:48]}...{text[-48:]}"


def _named(step: str, known: Mapping[str, Entry], nodes: list[tuple[str, Node]], where: str) -> str:
    """Name of the node that a step's name means: in full, or as the tree shows it, with or without its stage.

    All seeds of an arm have the same history: the first stands for them. A step without a history ends the
    program with a message.
    """
    if step in known:
        return step
    meant = [(stage, node) for stage, node in nodes if node.called(step, stage)]
    made = [(stage, node) for stage, node in meant if node.name in known]
    fits = dict(reversed(made or meant))
    if len(fits) != 1:
        what = (
            f"{step} is in several stages: name one of" if fits else f"no step {step} in this run; there are"
        )
        all_names = dict.fromkeys([*known, *(node.name for _, node in nodes)])
        listed = "\n  ".join([node.name for node in reversed(fits.values())] or all_names)
        stop(f"{what}:\n  {listed}")
    (found,) = fits.values()
    if found.name not in known:
        stop(f"{found.name} was not made in {where}: it has not begun, or its artifact was there before")
    return found.name
