"""Keys that a run's nodes have had on this machine, so that a re-run can be explained."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ixt_workloads.contract.graph import PIN, Keyed
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


def read(path: Path) -> list[Entry]:
    """All entries, oldest first. A line that a crash cut short is passed over."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def latest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The newest entry of each node."""
    return {entry.node: entry for entry in entries}


def record(path: Path, keyed: Mapping[str, Keyed]) -> None:
    """Append what differs from each node's newest entry."""
    last = latest(read(path))
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
