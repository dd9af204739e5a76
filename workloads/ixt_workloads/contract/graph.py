"""The nodes of a stage, and how pins turn them into keys. Operator and Inventory share this."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.keys import key_of, preimage
from ixt_workloads.contract.kinds import KINDS, StepConfig

PIN = "pin:"
"""Prefix of an input that is no node but a pin: the content hash of something that is only read."""


class OfNode(Model):
    """Which node of a run something belongs to: fields, and names made of them, which are never parsed."""

    kind: str
    """Kind of the step."""
    stage: str = ""
    """Empty for what belongs to the whole run."""
    arm: str = ""
    """Empty for what all arms share."""
    seed: int | None = None
    """Unset for what all seeds share."""
    part: str = ""
    """Part of the stage's documents, such as 0-15 or holdout; empty for all."""
    round: int | None = None
    """Round of a Rollout stage, from 1 on, or 0 for what is known before the first; unset for what is of no
    round."""
    server: bool = False
    """It is the server that the node talks to."""

    @cached_property
    def node(self) -> str:
        """Name of the node: `<stage>/annotate/0-15`, `<stage>/prepare/<arm>`, `<stage>/train/<arm>-s<seed>`,
        of a round `<stage>/train/<arm>-s<seed>/r<round>`, `<stage>/generate/holdout/<arm>-s<seed>/r<round>`,
        `report`; of a server, `<stage>/judge`."""
        return "/".join(filter(None, (self.stage, self.in_stage)))

    @property
    def in_stage(self) -> str:
        """Name of the node in its stage."""
        of_round = "" if self.round is None else f"r{self.round}"
        return "/".join(filter(None, (self.short, self.part, self.lane, of_round)))

    @property
    def step(self) -> str:
        """Name within its stage of its entry in the status, which all seeds and rounds of an arm share."""
        return "/".join(filter(None, (self.short, self.part or self.arm)))

    @property
    def lane(self) -> str:
        """Name of the lane, or of the arm for what its seeds share."""
        return self.arm if self.seed is None else f"{self.arm}-s{self.seed}"

    @property
    def short(self) -> str:
        """Short name of its kind or server; the kind's own name if only another version knows the kind."""
        row = KINDS.get(self.kind)
        if self.server and row and row.server:
            return row.server.short
        return row.short if row else self.kind.lower()

    def told_by(self, stage: str, step: str) -> bool:
        """Whether it belongs to the status entry `step` of a stage."""
        return self.step == step and self.stage in ("", stage)

    def called(self, name: str, stage: str) -> bool:
        """Whether `name`, said of a stage, may mean this node: its own name or that of its status entry, with
        or without the stage."""
        return name in (self.node, self.in_stage, self.step, f"{stage}/{self.step}")

    def serving(self) -> "OfNode":
        """The server that the node talks to: the stage's, where the kind's nodes share one, else its own.
        Held-out prompts after a round are answered by the next round's, whose policy is the same."""
        row = KINDS.get(self.kind)
        own: dict[str, Any] = {"part": "", "server": True}
        if row and row.server and row.server.shared:
            own |= {"arm": "", "seed": None, "round": None}
        elif self.part and self.round is not None:
            own["round"] = self.round + 1
        return OfNode(**{**self.fields_of_node(), **own})

    def fields_of_node(self) -> dict[str, Any]:
        """The fields that say which node it is, for something else that belongs to it."""
        return {name: getattr(self, name) for name in OfNode.model_fields}


class Node(OfNode):
    """A node of the run's graph: its config, and for each role of an input the node or pin that fills it."""

    version: int
    """Version of the kind as the operator knows it: whoever makes a key uses this one."""
    config: StepConfig
    inputs: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.node


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
        image = preimage(node.config, node.version, values)
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


DOES_NOT_FIT = 3
"""Exit code of a plan whose training does not fit onto its devices."""


class PlanQuestion(Model):
    """What `ixt plan` asks about a run."""

    stages: tuple[tuple[Node, ...], ...]
    """The nodes of each stage."""
    gpu: str | None = None
    """Name of the devices that train and judge; None: processors, or what this machine has."""
    here: bool = False
    """All runs on this machine: what it cannot hold is refused."""
    document_tokens: int = Field(default=1000, ge=1)
    """Tokens of a document, on average."""
    answer_tokens: int = Field(default=500, ge=1)
    """Tokens of a judge's reasoning and feedback on one document."""


class Task(OfNode):
    """What a step's process is told: one JSON document, the same on every platform.

    The process finds it at $IXT_TASK; its index among `indexes` is $IXT_INDEX.
    """

    written_by: str = ""
    """Version of ixt that wrote it."""
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

    def keyed(self, pins: Mapping[str, str]) -> dict[str, Keyed]:
        """The nodes of Inventory's stage with their keys, its own first, given what it has pinned.

        Raises StepError for the task of another step.
        """
        if self.probe is None:
            raise StepError(Exit.USAGE, f"the task of {self.node} lacks the probe that an Inventory answers")
        return resolve(self.probe.nodes, {**self.pins, **pins}, self.probe.known)
