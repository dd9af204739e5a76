"""The kinds of steps: one row a kind, which planner, operator and steps all read.

A new kind needs a row here with its config (configs.py), its nodes (planner/nodes.py), and the step itself
(steps/<short>/__main__.py); what its processes get beyond the usual is in planner/building.py.
"""

from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, SerializeAsAny, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails

from ixt_workloads.contract.configs import (
    AnnotateConfig,
    Config,
    EvaluateConfig,
    GenerateConfig,
    InventoryConfig,
    PrepareConfig,
    ReportConfig,
    TrainConfig,
)
from ixt_workloads.contract.metrics import Spending

LONGEST_SHORT = 9
"""Characters of a short name: with more, the names of children would not fit into a DNS label."""


class Role(StrEnum):
    """What the pods of a run do."""

    JUDGE = "Judge"
    """Serve a model to other steps: the judge, or the policy that answers prompts."""
    WORKER = "Worker"
    """All other steps."""
    TRAINER = "Trainer"
    EVALUATOR = "Evaluator"


class Server(NamedTuple):
    """A server that the steps of a kind talk to, and that is there for them alone."""

    short: str
    role: Role
    shared: bool = False
    """One serves all of a stage's nodes of the kind; else each node has one of its own."""


class Kind(NamedTuple):
    """What is known of a kind of step."""

    short: str
    """Its word in names: of nodes, of children, of its module in steps/. At most LONGEST_SHORT letters."""
    config: type[Config]
    role: Role
    weight: int
    """Rough share in a run's cost, for its progress."""
    spending: Spending
    """What its processes and its server spend their time on while they work."""
    version: int = 1
    """Part of keys. Bumped by hand when the kind makes another artifact of the same config and inputs."""
    server: Server | None = None
    """What its steps talk to, where the run serves that itself."""
    holds_devices: bool = False
    """Its processes may hold the devices that servers need."""
    shares_work: bool = False
    """Its processes share the documents, and each reports on its own share of them."""


KINDS: dict[str, Kind] = {
    "Inventory": Kind(
        "inventory", InventoryConfig, Role.WORKER, 1, Spending.PREPARING, version=2
    ),
    "Generate": Kind(
        "generate", GenerateConfig, Role.WORKER, 20, Spending.GENERATING,
        server=Server("policy", Role.JUDGE), shares_work=True,
    ),
    "Annotate": Kind(
        "annotate", AnnotateConfig, Role.WORKER, 20, Spending.ANNOTATING,
        server=Server("judge", Role.JUDGE, shared=True), version=4, shares_work=True,
    ),
    "Prepare": Kind(
        "prepare", PrepareConfig, Role.WORKER, 3, Spending.PREPARING, version=3,
        shares_work=True,
    ),
    "Train": Kind(
        "train", TrainConfig, Role.TRAINER, 50, Spending.TRAINING, version=3,
        holds_devices=True,
    ),
    "Evaluate": Kind(
        "evaluate", EvaluateConfig, Role.EVALUATOR, 4, Spending.EVALUATING, version=3,
        holds_devices=True,
    ),
    "Report": Kind("report", ReportConfig, Role.WORKER, 1, Spending.PREPARING, version=2),
}  # fmt: skip


def _read(value: Any, info: ValidationInfo) -> Any:
    """A config by the row of the kind that stands beside it. Raises ValidationError for one that has none."""
    if not isinstance(value, dict):
        return value
    name = info.data.get("kind", "")
    if name not in KINDS:
        known = {"expected": " or ".join(KINDS)}
        wrong = InitErrorDetails(type="literal_error", loc=("kind",), input=name, ctx=known)
        raise ValidationError.from_exception_data("config", [wrong])
    return KINDS[name].config.model_validate(value)


StepConfig = Annotated[SerializeAsAny[Config], BeforeValidator(_read)]
"""The config of a step; the field `kind` before it says of which kind."""
