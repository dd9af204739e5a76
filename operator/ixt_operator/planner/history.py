"""The keys that a run's nodes have had, and which changed field gave a node another key. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus, StageStatus, StepStatus
from ixt_workloads.contract.base import Lenient
from ixt_workloads.contract.foreign import json_of
from ixt_workloads.contract.graph import PIN
from ixt_workloads.contract.keys import differences
from ixt_workloads.contract.versions import read_known

START_FILE = "start.json"
"""Name of the document in which a run's start on a cluster is written down for people's questions."""
MAX_START_BYTES = 4 * 1024 * 1024
"""No such document is larger: the API server holds no run that is."""


class Entry(NamedTuple):
    """A key that a node had, and what it was hashed from."""

    node: str
    key: str
    preimage: dict[str, Any]


class _Start(Lenient):
    """The document of a start."""

    name: str
    spec: dict[str, Any]
    told: dict[str, Any]


class Change(NamedTuple):
    """A field whose change gave a node another key."""

    node: str
    """The node whose own field it is; a change is passed on to all that build on that node."""
    field: str
    old: Any
    new: Any


def start_document(run: IXTRun, status: RunStatus) -> str:
    """A run as it is carried out from now on, and what `status` tells of the keys and pins that its steps had
    until now: all that their preimages can be made of again."""
    stages = [
        StageStatus(
            name=stage.name,
            pins=stage.pins,
            steps=tuple(
                StepStatus(name=step.name, kind=step.kind, key=step.key, attempt=step.attempt)
                for step in stage.steps
                if step.attempt
            ),
        )
        for stage in status.stages
    ]
    found = _Start(
        name=run.metadata.name,
        spec=run.spec.model_dump(mode="json", exclude_defaults=True),
        told=RunStatus(stages=tuple(stages)).model_dump(mode="json", exclude_defaults=True),
    )
    return found.model_dump_json()


def read_start(text: str) -> tuple[IXTRun, RunStatus]:
    """The run and the status of a start's document. Raises ValueError for what another version wrote."""
    found = _Start.model_validate(json_of(text, MAX_START_BYTES))
    run = IXTRun.model_validate({"metadata": {"name": found.name}, "spec": found.spec})
    return run, read_known(RunStatus, found.told)


def latest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The newest entry of each node."""
    return {entry.node: entry for entry in entries}


def before(entries: list[Entry], node: str) -> Entry | None:
    """The entry of a node before its newest one."""
    own = [entry for entry in entries if entry.node == node]
    return own[-2] if len(own) > 1 else None


def causes(
    node: str,
    old: Mapping[str, Entry],
    new: Mapping[str, Entry],
    inputs: Mapping[str, Mapping[str, str]],
    seen: frozenset[str] = frozenset(),
) -> Iterator[Change]:
    """The fields that gave a node another key, followed through its inputs to where they changed.

    `inputs` tells for each node which node or pin fills the roles of its inputs.
    """
    if node in seen or node not in old or node not in new or old[node].key == new[node].key:
        return
    for field, was, becomes in differences(old[node].preimage, new[node].preimage):
        role = field.removeprefix("inputs.")
        source = inputs.get(node, {}).get(role, "") if field.startswith("inputs.") else ""
        if source in new and source in old:
            yield from causes(source, old, new, inputs, seen | {node})
        elif source.startswith(PIN):
            yield Change(node, f"content of {role}", was, becomes)
        else:
            yield Change(node, field.removeprefix("config."), was, becomes)
