"""The keys that a run's nodes have had, and which changed field gave a node another key. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ixt_workloads.contract.graph import PIN
from ixt_workloads.contract.keys import differences


class Entry(NamedTuple):
    """A key that a node had, and what it was hashed from."""

    node: str
    key: str
    preimage: dict[str, Any]


class Change(NamedTuple):
    """A field whose change gave a node another key."""

    node: str
    """The node whose own field it is; a change is passed on to all that build on that node."""
    field: str
    old: Any
    new: Any


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
