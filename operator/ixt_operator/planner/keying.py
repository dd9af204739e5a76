"""The graph of a run stage by stage: its nodes, what each Inventory is asked, and the keys after its answer.

Every look at a run needs all of it. It depends on the run's name and spec and on the pins only, so it is
computed once for each of these and remembered. Pure.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.planner.nodes import stage_nodes
from ixt_workloads.contract.graph import Keyed, Node, Probe, resolve
from ixt_workloads.contract.keys import KEY_LENGTH, canonical

Pins = tuple[tuple[str, str], ...]
"""Names and content hashes that one Inventory answered with, sorted."""

REMEMBERED = 512
"""Stages of runs; the largest takes some 2 MB."""


class Asked(NamedTuple):
    """What a stage's Inventory is asked."""

    probe: Probe
    pins: dict[str, str]
    """What earlier stages pinned."""
    question: str
    """Hash of the whole question (see `question_of`), by which an Inventory is current."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The stage's nodes, Inventory first."""
        return self.probe.nodes


class Graph:
    """A run as its graph sees it: equal to another whose name and spec are the same."""

    def __init__(self, run: IXTRun) -> None:
        self.run = run
        self._text = f"{run.metadata.name} {run.spec.model_dump_json()}"

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and other._text == self._text


@lru_cache(REMEMBERED)
def nodes_of(graph: Graph, position: int) -> tuple[Node, ...]:
    """The nodes of a stage, inputs before their users."""
    return stage_nodes(graph.run, position)


@lru_cache(REMEMBERED)
def asked_of(graph: Graph, answers: tuple[Pins, ...]) -> Asked:
    """What the first Inventory without an answer is asked."""
    stages = [keyed_of(graph, answers[: count + 1]) for count in range(len(answers))]
    known = {name: keyed.key for stage in stages for name, keyed in stage.items()}
    pins = {name: pin for answer in answers for name, pin in answer}
    probe = Probe(nodes=nodes_of(graph, len(answers)), known=known)
    return Asked(probe, pins, question_of(probe, pins))


@lru_cache(REMEMBERED)
def keyed_of(graph: Graph, answers: tuple[Pins, ...]) -> dict[str, Keyed]:
    """The nodes, with keys, of the last stage with an answer. Raises KeyError for a missing pin."""
    asked = asked_of(graph, answers[:-1])
    return resolve(asked.nodes, asked.pins | dict(answers[-1]), asked.probe.known)


def question_of(probe: Probe, pins: Mapping[str, str]) -> str:
    """Hash of all that an Inventory is asked, with the pins of earlier stages.

    Places are in it, so a dataset that moved is asked about again, as is an edit that changes a key of any
    node of the stage. An edit of what is in no key changes nothing.
    """
    question = {
        "inventory": probe.nodes[0].config.model_dump(mode="json", exclude_defaults=True),
        "nodes": [[node.name, node.version, canonical(node.config), node.inputs] for node in probe.nodes],
        "known": probe.known,
        "pins": dict(pins),
    }
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]
