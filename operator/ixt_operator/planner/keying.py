"""The graph of a run stage by stage, with what each Inventory is asked and the keys that its answer gives.

Every look at a run needs all of it, and it depends on little: on the spec and on the pins. So it is worked
out once for each of these and remembered. Pure.
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
    """Stands for the whole question, places included: a dataset that moved, or an edit that gives any step
    of the stage another key, asks anew; an edit that is in no key does not."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The stage's nodes, Inventory first."""
        return self.probe.nodes


class Graph:
    """The graph of one run."""

    def __init__(self, run: IXTRun) -> None:
        self._run = _Run(run)

    def nodes(self, position: int) -> tuple[Node, ...]:
        """The nodes of a stage, inputs before their users."""
        return _nodes(self._run, position)

    def asked(self, answers: tuple[Pins, ...]) -> Asked:
        """The question to the first stage without an answer."""
        return _asked(self._run, answers)

    def keyed(self, answers: tuple[Pins, ...]) -> Mapping[str, Keyed]:
        """The nodes, with keys, of the last stage with an answer. Raises KeyError for a missing pin."""
        return _keyed(self._run, answers)


def question_of(probe: Probe, pins: Mapping[str, str]) -> str:
    """What stands for the question that an Inventory is asked, with what earlier stages pinned."""
    question = {
        "inventory": probe.nodes[0].config.model_dump(mode="json", exclude_defaults=True),
        "nodes": [[node.name, node.version, canonical(node.config), node.inputs] for node in probe.nodes],
        "known": probe.known,
        "pins": dict(pins),
    }
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]


class _Run:
    """A run that is equal to another when all that its graph is made from is."""

    def __init__(self, run: IXTRun) -> None:
        self.run = run
        self._text = f"{run.metadata.name} {run.spec.model_dump_json()}"

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Run) and other._text == self._text


@lru_cache(REMEMBERED)
def _nodes(run: _Run, position: int) -> tuple[Node, ...]:
    return stage_nodes(run.run, position)


@lru_cache(REMEMBERED)
def _asked(run: _Run, answers: tuple[Pins, ...]) -> Asked:
    stages = [_keyed(run, answers[: count + 1]) for count in range(len(answers))]
    known = {name: keyed.key for stage in stages for name, keyed in stage.items()}
    pins = {name: pin for answer in answers for name, pin in answer}
    probe = Probe(nodes=_nodes(run, len(answers)), known=known)
    return Asked(probe, pins, question_of(probe, pins))


@lru_cache(REMEMBERED)
def _keyed(run: _Run, answers: tuple[Pins, ...]) -> dict[str, Keyed]:
    asked = _asked(run, answers[:-1])
    return resolve(asked.nodes, asked.pins | dict(answers[-1]), asked.probe.known)
