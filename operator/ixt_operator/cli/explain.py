"""`ixt why` and `ixt diff`: which field caused, or would cause, which step to run again."""

from collections.abc import Mapping
from pathlib import Path

import typer

from ixt_operator.api.run import IXTRun
from ixt_operator.controller import history, local
from ixt_operator.controller.history import Change, Entry
from ixt_operator.plan.nodes import REPORT, resolve_run, stage_nodes


class UnknownStepError(Exception):
    """No such step; the message lists those that there are."""


def print_why(run: IXTRun, workdir: Path, step: str) -> None:
    """Print why a step has the key that it has."""
    entries = history.read(local.history_file(workdir))
    newest = history.latest(entries)
    name = _named(step, newest)
    earlier = history.before(entries, name)
    if earlier is None:
        typer.echo(f"{name} {newest[name].key}: made once in this workdir, nothing caused a re-run")
        return
    old = {entry.node: history.before(entries, entry.node) or entry for entry in newest.values()}
    typer.echo(f"{name}: {earlier.key} -> {newest[name].key}")
    _print(_distinct(name, old, newest, _inputs(run)))


def print_changes(run: IXTRun, workdir: Path) -> None:
    """Print for every step whether the manifest would run it again, and why."""
    status = local.read_status(workdir)
    old = history.latest(history.read(local.history_file(workdir)))
    pins = {stage.name: dict(stage.pins) for stage in (status.stages if status else ()) if stage.pins}
    keyed = resolve_run(run, pins)
    new = {name: Entry(name, entry.key, entry.preimage) for name, entry in keyed.items()}
    inputs = _inputs(run)
    for name in inputs:
        if name not in new:
            typer.echo(f"run      {name}  (its key is known once Inventory has run)")
        elif name not in old:
            typer.echo(f"run      {name}  {new[name].key}  (new)")
        elif old[name].key != new[name].key:
            typer.echo(f"run      {name}  {old[name].key} -> {new[name].key}")
            _print(_distinct(name, old, new, inputs))
        else:
            typer.echo(f"cached   {name}  {new[name].key}")
    for name in sorted(set(old) - set(inputs)):
        typer.echo(f"gone     {name}  {old[name].key}")


def _inputs(run: IXTRun) -> dict[str, dict[str, str]]:
    return {
        node.name: node.inputs for place in range(len(run.spec.stages)) for node in stage_nodes(run, place)
    }


def _distinct(
    name: str, old: Mapping[str, Entry], new: Mapping[str, Entry], inputs: Mapping[str, Mapping[str, str]]
) -> list[Change]:
    found = {(change.node, change.field): change for change in history.causes(name, old, new, inputs)}
    return list(found.values())


def _print(changes: list[Change]) -> None:
    for change in changes:
        values = f"{_shown(change.old)} -> {_shown(change.new)}"
        typer.echo(f"           because {change.field} of {change.node} changed: {values}")


def _shown(value: object) -> str:
    text = "(default)" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _named(step: str, known: Mapping[str, Entry]) -> str:
    if step in known:
        return step
    candidates = [name for name in known if name.endswith("/" + step) or name.startswith(step + "-s")]
    if len(candidates) == 1 or (candidates and step != REPORT):
        return candidates[0]
    listed = "\n  ".join(known) or "(none yet: start the run first)"
    raise UnknownStepError(f"no step {step} in this run; there are:\n  {listed}")
