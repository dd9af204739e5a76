"""A kind of step that only tests know: owned by lanes, with a server of its own, between Prepare and Train.

Whatever planner, status and adapters do with it they do by its row in KINDS alone.
"""

from typing import Annotated, ClassVar

import pytest

from ixt_operator.api.run import IXTRun
from ixt_operator.planner import keying, nodes
from ixt_workloads.contract.base import InKey
from ixt_workloads.contract.configs import Config
from ixt_workloads.contract.graph import Node
from ixt_workloads.contract.kinds import KINDS, Kind, Role, Server
from ixt_workloads.contract.metrics import Spending

SAMPLED = "sampled"
"""Runs of this name have the kind's steps."""


class SampleConfig(Config):
    """What one lane samples."""

    kind: ClassVar[str] = "Sample"
    seed: Annotated[int, InKey]


SAMPLE = Kind(
    "sample", SampleConfig, Role.WORKER, 5, Spending.GENERATING,
    server=Server("policy", Role.JUDGE),
)  # fmt: skip


def know(patch: pytest.MonkeyPatch) -> None:
    """Have planner and contract know the kind until the patch is undone."""
    patch.setitem(KINDS, "Sample", SAMPLE)
    patch.setattr(keying, "stage_nodes", _stage_nodes)


def _stage_nodes(run: IXTRun, position: int) -> tuple[Node, ...]:
    found: list[Node] = []
    for node in nodes.stage_nodes(run, position):
        if node.kind == "Train" and run.metadata.name == SAMPLED:
            own = {"kind": "Sample", "stage": node.stage, "arm": node.arm, "seed": node.seed}
            config = SampleConfig(seed=node.seed or 0)
            sample = Node(version=1, config=config, inputs={"prepare": node.inputs["prepare"]}, **own)
            found.append(sample)
            node = node.model_copy(update={"inputs": {**node.inputs, "samples": sample.name}})  # noqa: PLW2901
        found.append(node)
    return tuple(found)
