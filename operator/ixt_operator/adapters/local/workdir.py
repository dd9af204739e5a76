"""The files of a run in its workdir, beside the state of its children:

run.json     the manifest as it was last carried out, with the uid that the workdir gave the run
status.json  the run's status
keys.jsonl   the keys that nodes have had (`Entry` in planner/history.py), a line each
lock         locked while a process carries the run out
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    Phase,
    Reason,
    RunStatus,
    StepState,
    StepStatus,
)
from ixt_operator.planner.history import Entry, latest
from ixt_workloads.contract.graph import Keyed
from ixt_workloads.contract.versions import read_known

GO_ON = "stopped: the same `ixt run` goes on from here"


class LocalError(Exception):
    """What keeps a run from going on on this machine: a message for people, what is wrong and what to do."""


def workdir_of(run: IXTRun) -> Path:
    """Where a run keeps its state unless told otherwise: .ixt/<name> in the current folder."""
    return Path(".ixt") / run.metadata.name


def keys_in(workdir: Path) -> list[Entry]:
    """The keys that nodes have had, oldest first. A line that a crash cut short is passed over."""
    path = _keys(workdir)
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def newest_keys(workdir: Path) -> dict[str, Entry]:
    """The newest entry of each node that has one."""
    return latest(keys_in(workdir))


def record_keys(workdir: Path, keyed: Mapping[str, Keyed]) -> None:
    """Append the keys that differ from their node's newest entry."""
    path, last = _keys(workdir), newest_keys(workdir)
    new = [
        Entry(name, entry.key, entry.preimage)
        for name, entry in keyed.items()
        if name not in last or last[name].key != entry.key
    ]
    if new:
        lines = [json.dumps(entry._asdict(), sort_keys=True) + "\n" for entry in new]
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            lines.insert(0, "\n")  # ends the line that a crash cut short
        with path.open("a") as file:
            file.write("".join(lines))


def _keys(workdir: Path) -> Path:
    return workdir / "keys.jsonl"


def status_in(workdir: Path) -> RunStatus | None:
    """The last status, or None before the first."""
    try:
        return read_known(RunStatus, (workdir / "status.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def current_status(workdir: Path) -> RunStatus | None:
    """The last status as it is by now: stopped, if the run has not ended and no process carries it out."""
    found = status_in(workdir)
    return found if found is None or found.ended or in_use(workdir) else _stopped(found)


def _stopped(status: RunStatus) -> RunStatus:
    """The status with what runs at rest. What will go on is suspended, in the words of the API."""

    def rest(step: StepStatus) -> StepStatus:
        going_on = step.state is StepState.RUNNING
        return step.model_copy(update={"state": StepState.WAITING}) if going_on else step

    def at_rest(condition: Condition) -> Condition:
        if condition.type not in (ConditionType.SUSPENDED, ConditionType.PROGRESSING):
            return condition
        holds = condition.type is ConditionType.SUSPENDED
        told = {"status": ConditionStatus.TRUE if holds else ConditionStatus.FALSE, "reason": Reason.STOPPED}
        return condition.model_copy(update={**told, "message": GO_ON})

    stages = tuple(
        stage.model_copy(update={"steps": tuple(map(rest, stage.steps))}) for stage in status.stages
    )
    summary = status.summary.model_copy(update={"eta_seconds": None, "message": GO_ON})
    return status.model_copy(
        update={
            "phase": Phase.SUSPENDED,
            "conditions": tuple(map(at_rest, status.conditions)),
            "summary": summary,
            "stages": stages,
        }
    )


def write_status(workdir: Path, status: RunStatus) -> None:
    """Keep the status."""
    write(workdir / "status.json", status.model_dump_json(exclude_none=True, indent=1))


def read_run(workdir: Path) -> IXTRun | None:
    """The run as it was last carried out; None before the first time, or when another version wrote it."""
    try:
        return IXTRun.model_validate_json((workdir / "run.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_run(workdir: Path, run: IXTRun) -> None:
    """Keep the run as it is carried out now."""
    write(workdir / "run.json", run.model_dump_json(exclude_defaults=True, indent=1))


def identified(run: IXTRun, workdir: Path) -> IXTRun:
    """The run with the uid that this workdir gave it, or as it is before its first start. By the uid it finds
    its own unfinished work. Raises LocalError for the workdir of another run."""
    try:
        known = json.loads((workdir / "run.json").read_bytes())["metadata"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        return run
    if known["name"] != run.metadata.name:
        raise LocalError(
            f"{workdir} holds the run {known['name']}, not {run.metadata.name}: choose another --workdir"
        )
    return run.with_metadata(uid=known["uid"])


def write(path: Path, text: str) -> None:
    """Replace a file in one step, so that a crash leaves the old or the new one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def in_use(workdir: Path) -> bool:
    """Whether a process carries the run out."""
    return holder(workdir) is not None


def holder(workdir: Path) -> int | None:
    """The process that carries the run out; 0 for one that cannot be seen from here, None for none. The
    kernel's list of locks is read, since taking the lock for a moment would turn away whoever starts the run
    just then."""
    try:
        inode = (workdir / "lock").stat().st_ino
    except FileNotFoundError:
        return None
    for line in Path("/proc/locks").read_text().splitlines():
        if "FLOCK" in line and f":{inode} " in line:
            return max(0, int(line.split()[4]))
    return None


def with_volumes(run: IXTRun, workdir: Path) -> IXTRun:
    """The run with its storage by its path on this machine, where a claim is a folder of its workdir."""
    uri, root = run.spec.storage.uri, os.environ.get("IXT_PVC_ROOT")
    if not uri.startswith("pvc://"):
        return run
    place = Path(root or workdir / "volumes", uri.removeprefix("pvc://")).resolve().as_uri()
    storage = run.spec.storage.model_copy(update={"uri": place})
    return run.model_copy(update={"spec": run.spec.model_copy(update={"storage": storage})})
