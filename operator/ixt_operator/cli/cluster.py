"""A run on a cluster, as kubectl tells of it: every request is made by kubectl, with the user's own
configuration, contexts and credentials. What fails ends the program with exit code 1."""

import subprocess
from contextlib import suppress
from typing import Any

import typer
from pydantic import ValidationError

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus
from ixt_operator.cli.explain import history_of
from ixt_operator.cli.stop import FAILED, stop
from ixt_operator.planner.history import MAX_START_BYTES, START_FILE, Entry, latest, read_start
from ixt_operator.render.config_map import unpacked
from ixt_operator.render.names import RUN_UID, STARTED
from ixt_workloads.contract.foreign import answer_of
from ixt_workloads.contract.versions import read_known

NOT_ACCEPTED = "the operator does not accept the run as it stands: kubectl ixt status says why"

Starts = list[tuple[IXTRun, RunStatus]]

flags: list[str] = []
"""Flags that every request passes on to kubectl."""


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl and return what it prints. When it fails, it has said why on stderr: exit code 1."""
    try:
        done = subprocess.run(
            ["kubectl", *flags, *arguments], input=stdin, stdout=subprocess.PIPE, text=True, check=False
        )
    except FileNotFoundError:
        stop("kubectl is not on the PATH: install it, then try again")
    if done.returncode:
        raise typer.Exit(FAILED)
    return done.stdout


def answer(*arguments: str) -> Any:
    """What kubectl answers as JSON."""
    return answer_of(kubectl(*arguments, "-o", "json").encode())


def manifest_of(name: str) -> Any:
    """The IXTRun of a name, as the API server has it."""
    return answer("get", "ixtrun", name)


def status_in(manifest: Any) -> RunStatus:
    """The status of a manifest, as far as this version knows its fields."""
    return read_known(RunStatus, manifest.get("status") or {})


def loaded(manifest: Any) -> IXTRun:
    """The run of a manifest. Ends the program for one that the operator does not accept."""
    try:
        return IXTRun.without_status(manifest)
    except ValidationError:
        stop(NOT_ACCEPTED, FAILED)


def starts_of(manifest: Any) -> Starts:
    """What the run was started with, oldest first. What another version wrote is passed over."""
    ours = f"{RUN_UID}={manifest['metadata']['uid']},{STARTED}"
    configs = answer("get", "configmaps", "-l", ours)["items"]
    found = []
    for config in sorted(configs, key=_started_at):
        with suppress(ValueError):
            found.append(read_start(unpacked(config, START_FILE, MAX_START_BYTES)))
    return found


def carried_out(manifest: Any) -> tuple[IXTRun, dict[str, Entry]]:
    """The run as it was started last, whatever its spec says by now, and the newest key of each node. Ends
    the program for a run that was not started."""
    starts, run = starts_of(manifest), loaded(manifest)
    if not starts:
        stop(f"run {run.metadata.name} was not started yet: kubectl ixt status says how far it is", FAILED)
    run = run.model_copy(update={"spec": starts[-1][0].spec})
    return run, latest(history_of(starts, status_in(manifest)))


def _started_at(config: Any) -> tuple[int, str, int]:
    """Generation, time and version: times are whole seconds."""
    metadata = config["metadata"]
    generation, version = metadata["labels"][STARTED], metadata["resourceVersion"]
    return int(generation) if generation.isdecimal() else 0, metadata["creationTimestamp"], int(version)
