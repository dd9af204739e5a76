"""The config of each kind of step: what its task carries and its key is hashed from. Fields are marked as in
settings.py."""

from typing import Annotated, ClassVar

from pydantic import Field

from ixt_workloads.contract.base import InKey, Model, NotInKey, Percent
from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.settings import (
    Conditioning,
    Dataset,
    EvalTask,
    Evaluate,
    ExistingFeedback,
    Gates,
    Judge,
    Method,
    ModelSource,
    Prepare,
    StageType,
    Train,
)


class Config(Model):
    """The config of a step; each kind has its own."""

    kind: ClassVar[str]
    """Name of the kind, as in kinds.py. Not a field: what holds a config has a field `kind` beside it."""


class InventoryConfig(Config):
    """Pins everything that a stage reads and lays its documents out in shards."""

    kind: ClassVar[str] = "Inventory"
    datasets: Annotated[tuple[Dataset, ...], InKey, Field(min_length=1, max_length=32)]
    existing: Annotated[ExistingFeedback | None, InKey] = None
    holdout_documents: Annotated[int, InKey] = 256
    tasks: Annotated[tuple[EvalTask, ...], NotInKey] = ()
    """Pinned, not read: see the pin `tasks`."""
    judge: Annotated[Judge | None, NotInKey] = None
    """Pinned, not read: see the pin `judge`."""
    model: Annotated[ModelSource | None, NotInKey] = None
    """Pinned, not read: see the pins `model` and `tokenizer`."""


class AnnotateConfig(Config):
    """Feedback on one band of a stage's documents, or on its held-out ones."""

    kind: ClassVar[str] = "Annotate"
    judge: Annotated[Judge | None, InKey] = None
    """None: the feedback comes from the data (`existing` of Inventory)."""
    gates: Annotated[Gates, InKey] = Gates()
    from_percent: Annotated[Percent, InKey] = 0
    to_percent: Annotated[Percent, InKey] = 100
    """The documents whose place in the sample lies in [fromPercent, toPercent)."""
    holdout: Annotated[bool, InKey] = False
    """True: the held-out documents, all of them, and no others."""


class PrepareConfig(Config):
    """Makes packed training sequences of documents and feedback, for one arm."""

    kind: ClassVar[str] = "Prepare"
    stage_type: Annotated[StageType, InKey]
    method: Annotated[Method, InKey]
    conditioning: Annotated[Conditioning, InKey]
    """With lossOnFeedback resolved."""
    prepare: Annotated[Prepare, InKey]
    rubric: Annotated[RubricText | None, InKey] = None
    """Scale of the raw scores, ideal and worst critique."""
    tokenizer: Annotated[ModelSource, NotInKey]
    """Where the tokenizer lies; its content is the pin `tokenizer`."""


class TrainConfig(Config):
    """One training job of one arm and seed."""

    kind: ClassVar[str] = "Train"
    stage_type: Annotated[StageType, InKey]
    train: Annotated[Train, InKey]
    """With maxTokens scaled by the arm's tokensPercent."""
    seed: Annotated[int, InKey, Field(ge=0, le=2**31 - 1)]
    anneal_percent: Annotated[Percent, InKey] = 0
    """Percent of the tokens, the last ones, that come from the split `anneal`."""
    evaluate: Annotated[Evaluate, InKey]
    """For the periodic evaluation."""
    model: Annotated[ModelSource | None, NotInKey] = None
    """Where the first stage starts from (the pin `model`); later ones have the input `parent`."""


class EvaluateConfig(Config):
    """Evaluation of one trained model."""

    kind: ClassVar[str] = "Evaluate"
    stage_type: Annotated[StageType, InKey]
    evaluate: Annotated[Evaluate, InKey]
    seed: Annotated[int, InKey]


class ReportLane(Model):
    """Names the nodes of one arm and seed in one stage, for the report."""

    stage: Annotated[str, InKey]
    stage_type: Annotated[StageType, InKey]
    arm: Annotated[str, InKey]
    method: Annotated[Method, InKey]
    seed: Annotated[int, InKey]
    inventory: Annotated[str, InKey]
    annotate: Annotated[tuple[str, ...], InKey] = ()
    """Annotations that the arm pays for."""
    holdout: Annotated[str | None, InKey] = None
    """Annotation of the held-out documents: paid by the evaluation, not by the arm."""
    prepare: Annotated[str, InKey]
    train: Annotated[str, InKey]
    evaluate: Annotated[str, InKey]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all of its nodes."""
        of_stage = (self.inventory, *self.annotate, *([self.holdout] if self.holdout else []))
        return (*of_stage, self.prepare, self.train, self.evaluate)


class ReportConfig(Config):
    """One HTML page over all lanes of a run."""

    kind: ClassVar[str] = "Report"
    title: Annotated[str, NotInKey] = ""
    lanes: Annotated[tuple[ReportLane, ...], InKey]
