"""The config of each kind of step: what its task carries and its key is hashed from. Fields are marked as in
settings.py."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from ixt_workloads.contract.base import InKey, Model, NotInKey, Percent
from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.settings import (
    Conditioning,
    Dataset,
    EvalPrefix,
    EvalTask,
    Evaluate,
    ExistingFeedback,
    Gates,
    Generation,
    Harness,
    Judge,
    Method,
    ModelSource,
    Prepare,
    Scale,
    StageType,
    Train,
)
from ixt_workloads.contract.trackers import Trackers
from ixt_workloads.contract.verifiers import JudgeSees, Verifier


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
    rollout: Annotated[bool, InKey] = False
    """The datasets hold prompts."""
    verifier: Annotated[Verifier | None, InKey] = None
    """What answers will be verified by: prompts need what it needs."""
    tasks: Annotated[tuple[EvalTask, ...], NotInKey] = ()
    """Pinned, not read: see the pin `tasks`."""
    harness: Annotated[Harness | None, NotInKey] = None
    """Pinned, not read: see the pin `harness`."""
    judge: Annotated[Judge | None, NotInKey] = None
    """Pinned, not read: see the pin `judge`."""
    model: Annotated[ModelSource | None, NotInKey] = None
    """Pinned, not read: see the pins `model` and `tokenizer`."""

    @property
    def is_chat(self) -> bool:
        """The stage is about conversations."""
        return self.rollout or any(dataset.messages_field for dataset in self.datasets)


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
    verifier: Annotated[Verifier | None, InKey] = None
    """Set where the documents are a model's answers to prompts: says how right each is."""
    judge_sees: Annotated[JudgeSees, InKey] = JudgeSees.REFERENCE


class GenerateConfig(Config):
    """Samples of one round: what a lane's policy answers to prompts, laid out as an Inventory's documents."""

    kind: ClassVar[str] = "Generate"
    generation: Annotated[Generation, InKey]
    round: Annotated[int, InKey, Field(ge=0, le=16)]
    """Decides, with the seed, which prompts are taken. Of held-out prompts the round after which they are
    asked, 0 before the first."""
    prefixes: Annotated[tuple[EvalPrefix, ...], InKey] = ()
    """Set for an evaluation: the held-out prompts are answered, under each of these as far as the policy was
    trained with any. Empty: the round's own prompts are."""
    seed: Annotated[int, InKey, Field(ge=0, le=2**31 - 1)]
    engine_args: Annotated[tuple[str, ...], InKey] = ()
    """Those options of the engine that change what the policy says."""
    model: Annotated[ModelSource, NotInKey]
    """Where the tokenizer lies (the pin `tokenizer`), and in the first round of a first stage the policy (the
    pin `model`); another one is the input `policy`."""


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
    scale: Annotated[Scale | None, InKey] = None
    """Scale of feedback that the data have, without a rubric."""
    verifier: Annotated[Verifier | None, InKey] = None
    """What the documents, a model's answers, were verified by."""
    gates: Annotated[Gates, InKey] = Gates()
    """Those about levels are looked at here."""
    tasks: Annotated[tuple[EvalTask, ...], InKey] = ()
    """Looked for in the documents; their content is the pin `tasks`."""
    seed: Annotated[int, InKey, Field(ge=0, le=2**31 - 1)] = 0
    """Draws the documents that go without feedback, and with the method Shuffled whose feedback each gets."""
    tokenizer: Annotated[ModelSource, NotInKey]
    """Where the tokenizer lies; its content is the pin `tokenizer`."""


class ReferenceStage(Model):
    """What the reference arm reads in one stage."""

    sequences: Annotated[int, InKey, Field(ge=1)]
    anneal_percent: Annotated[Percent, InKey] = 0
    """As of TrainConfig."""


class TrainConfig(Config):
    """One training job of one arm and seed."""

    kind: ClassVar[str] = "Train"
    stage_type: Annotated[StageType, InKey]
    train: Annotated[Train, InKey]
    """With maxTokens scaled by the arm's tokensPercent; with a reference that decides instead."""
    seed: Annotated[int, InKey, Field(ge=0, le=2**31 - 1)]
    anneal_percent: Annotated[Percent, InKey] = 0
    """Percent of the tokens, the last ones, that come from the split `anneal`."""
    reference: Annotated[tuple[ReferenceStage, ...], InKey] = ()
    """The reference arm's stages up to this one, whose Prepares are the inputs `reference/0` and so on. The
    training is planned to end when the lane has spent as many FLOPs as that arm. Empty: maxTokens decides."""
    eval_points: Annotated[int, InKey, Field(ge=0)] = 0
    """Evaluations in the training where evalEveryTokens is unset, equally far apart."""
    evaluate: Annotated[Evaluate, InKey]
    """For the periodic evaluation, without the harness."""
    model: Annotated[ModelSource | None, NotInKey] = None
    """Where the first stage starts from (the pin `model`); later ones have the input `parent`."""
    trackers: Annotated[Trackers | None, NotInKey] = None
    """Who is told the curve."""


class EvaluateConfig(Config):
    """Evaluation of one trained model."""

    kind: ClassVar[str] = "Evaluate"
    stage_type: Annotated[StageType, InKey]
    evaluate: Annotated[Evaluate, InKey]
    seed: Annotated[int, InKey]
    verifier: Annotated[Verifier | None, InKey] = None
    """What the model's answers to held-out prompts (the input `samples`) are verified by."""
    trackers: Annotated[Trackers | None, NotInKey] = None
    """Who is told the scores."""


class ReportRound(Model):
    """Names the nodes of one round of a lane."""

    round: Annotated[int, InKey]
    generate: Annotated[str, InKey]
    annotate: Annotated[str, InKey]
    prepare: Annotated[str, InKey]
    train: Annotated[str, InKey]
    evaluate: Annotated[str, InKey]
    samples: Annotated[str | None, InKey] = None
    """Answers of the round's model to held-out prompts: paid by the evaluation, not by the arm."""


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
    rounds: Annotated[tuple[ReportRound, ...], InKey, Field(max_length=16)] = ()
    """Of a Rollout stage all its rounds; the lane's own nodes are then those of the last one."""
    start: Annotated[str | None, InKey] = None
    """Evaluation of the answers that the model gives before the first round."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all of its nodes."""
        of_stage = (self.inventory, *self.annotate, *([self.holdout] if self.holdout else []))
        of_rounds = [
            name
            for each in self.rounds
            for name in (each.generate, each.prepare, each.train, each.evaluate, each.samples)
        ]
        names = (*of_stage, self.start, *of_rounds, self.prepare, self.train, self.evaluate)
        return tuple(dict.fromkeys(name for name in names if name))

    def renamed(self, of: Callable[[str], str]) -> Self:
        """The same lane with another name for each of its nodes."""

        def named(model: Model, *fields: str) -> dict[str, Any]:
            return {field: of(name) for field in fields if (name := getattr(model, field))}

        of_round = ("generate", "annotate", "prepare", "train", "evaluate", "samples")
        own = named(self, "inventory", "holdout", "start", "prepare", "train", "evaluate")
        rounds = tuple(each.model_copy(update=named(each, *of_round)) for each in self.rounds)
        return self.model_copy(update={**own, "annotate": tuple(map(of, self.annotate)), "rounds": rounds})


class ReportConfig(Config):
    """One HTML page over all lanes of a run."""

    kind: ClassVar[str] = "Report"
    title: Annotated[str, NotInKey] = ""
    lanes: Annotated[tuple[ReportLane, ...], InKey]
    missing: Annotated[tuple[str, ...], InKey] = ()
    """Names of the lanes that were given up: those of their stages that are complete are reported."""
