"""The steps of a stage as a graph, and how pins turn it into keys. Operator and Inventory share this."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.configs import StepConfig
from ixt_workloads.contract.keys import key_of, preimage

PIN = "pin:"
"""Prefix of an input that is no node but a pin: the content hash of something that is only read."""


class Node(Model):
    """One step: its config, and for each role of an input the node or the pin that fills it.

    Names: `<stage>/inventory`, `<stage>/annotate/<from>-<to>`, `<stage>/annotate/holdout`,
    `<stage>/prepare/<arm>`, `<stage>/train/<arm>-s<seed>`, `<stage>/evaluate/<arm>-s<seed>`, `report`.
    """

    name: str
    config: StepConfig
    inputs: dict[str, str] = {}

    @property
    def kind(self) -> str:
        return self.config.kind


class Keyed(Model):
    """A node with its key, known before the step runs."""

    node: Node
    key: str
    preimage: dict[str, Any]
    inputs: dict[str, str]
    """Role of each input to its key, pins left out."""


def resolve(nodes: Iterable[Node], pins: Mapping[str, str], known: Mapping[str, str]) -> dict[str, Keyed]:
    """Keys of the nodes, which come in an order in which inputs stand before their users.

    `pins` are what Inventory pinned for this stage, `known` the keys of earlier stages' nodes by name.
    Raises KeyError for an input that is neither.
    """
    keys = dict(known)
    found: dict[str, Keyed] = {}
    for node in nodes:
        values = {
            role: pins[name.removeprefix(PIN)] if name.startswith(PIN) else keys[name]
            for role, name in node.inputs.items()
        }
        image = preimage(node.config, values)
        keys[node.name] = key = key_of(image)
        inputs = {role: values[role] for role, name in node.inputs.items() if not name.startswith(PIN)}
        found[node.name] = Keyed(node=node, key=key, preimage=image, inputs=inputs)
    return found


class Probe(Model):
    """What Inventory needs to name the keys of its stage and to say which are committed."""

    nodes: tuple[Node, ...]
    """The stage's nodes, Inventory first; the report with the last stage."""
    known: dict[str, str] = {}
    """Keys of earlier stages' nodes by name."""


class Task(Model):
    """What a step's process is told: one JSON document, the same on every adapter.

    The process finds it at $IXT_TASK; its index among `indexes` is $IXT_INDEX.
    """

    name: str
    """The node's name."""
    config: StepConfig
    key: str = ""
    """Empty for Inventory, which finds its own key from what it pins, and for a judge, which makes none."""
    preimage: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    """Role of each input to its key."""
    pins: dict[str, str] = {}
    storage: str
    """URI of the run's storage."""
    run: str
    """Name of the run."""
    run_uid: str
    attempt: int = Field(ge=0)
    indexes: int = Field(ge=1)
    """Number of processes that share the step (Indexed Job's completions)."""
    probe: Probe | None = None
    """For Inventory only."""
