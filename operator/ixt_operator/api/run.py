"""IXTRun: a training run as its user writes it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model

from ixt_operator.api.engine import Engine
from ixt_operator.api.judge import ConfigMapKeyRef, JudgeSpec, RubricSpec
from ixt_operator.api.meta import API_VERSION, Distinct, ObjectMeta
from ixt_operator.api.pods import Pods
from ixt_operator.api.resources import KeyRef, Resources
from ixt_operator.api.rules import (
    Checked,
    Rule,
    Spec,
    Transition,
    credentials_rule,
    range_rule,
    revision_rule,
    words,
)
from ixt_operator.api.status import RunStatus
from ixt_workloads.contract import settings
from ixt_workloads.contract.base import InKey, Model, Name, NotInKey, ObjectName, StorageUri
from ixt_workloads.contract.credentials import SecretRef
from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.settings import (
    Conditioning,
    Export,
    FeedbackFormat,
    LossOnFeedback,
    Method,
    MomentsPrecision,
    Prepare,
    StageType,
)
from ixt_workloads.contract.trackers import Trackers

MAX_STAGES = 16
MAX_ARMS = 16
MAX_ARM_STAGES = 40
"""Arms times stages: keeps the status small enough to be stored."""
MAX_ROUNDS = 128
"""Rounds of a Rollout stage times arms times seeds: keeps what its Inventory is asked small enough for a
ConfigMap."""
MAX_TOKENS = 10**15
"""Tokens that an arm trains on in a stage."""

YEAR = 31_536_000

PLAIN_METHODS = words(method for method in Method if not method.uses_feedback)
SAMPLE_METHODS = words(method for method in Method if method.samples)
PLAIN_FORMATS = words(form for form in FeedbackFormat if not form.needs_critique)
AXES_FORMATS = words(form for form in FeedbackFormat if form.needs_axes)
LEVEL_FORMATS = words(form for form in FeedbackFormat if not form.says)

MANAGER = "ixt.dev/operator"
"""spec.managedBy of runs that this operator carries out."""

TAKE_OVER = "ixt.dev/take-over"
"""Annotation of a run: with each new value, whatever it is, it takes over what changed in what it names."""

KEEP_CHILDREN = "ixt.dev/keep-children"
"""Annotation of a run: "true" keeps its Jobs and pods, with their logs, when it has ended."""

ShortName = Annotated[Name, Field(max_length=24)]
"""Name of a stage or an arm: a DNS label that becomes part of the names of Jobs and pods."""


class RuntimeRef(Model):
    """The IXTRuntime that says how this run's pods look."""

    name: ObjectName = "cpu"
    """Name of a cluster-scoped IXTRuntime."""


class Sharing(StrEnum):
    """Whether runs reuse each other's artifacts."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Storage(Checked):
    """Where the run keeps its artifacts."""

    uri: StorageUri
    """Bucket and prefix (s3://, gs://), volume claim and folder (pvc://claim/path) or folder (file:///path)."""
    credentials_secret_ref: SecretRef | None = None
    """Secret in the run's namespace whose keys become environment variables of all pods, for example
    AWS_ACCESS_KEY_ID. Unset: the identity of the pods' service account."""
    signing_key_secret_ref: KeyRef | None = None
    """Key of a Secret in the run's namespace, of at least 32 characters, that manifests, claims, run files
    and checkpoints are signed with (HMAC-SHA256): what others wrote into the storage counts as absent. All
    runs that share a storage need the same."""
    shared: Sharing = Sharing.ENABLED
    """Enabled: runs with the same storage reuse each other's artifacts. Disabled: this run makes all of its
    own, in a folder of its own, private/<uid>."""

    rules = (credentials_rule("uri", hub=False),)
    transitions = (
        Transition(
            "self.uri == oldSelf.uri",
            "may not change, since the run's artifacts lie there: make a new run",
            "uri",
        ),
        Transition(
            "self.shared == oldSelf.shared",
            "may not change, since it decides where the run's artifacts lie: make a new run",
            "shared",
        ),
    )


class ModelSpec(settings.ModelSource, Checked):
    """The model to start from: a checkpoint, or a configuration to initialise from scratch."""

    rules = (
        Rule(
            "has(self.source) ? !has(self.config) && !has(self.tokenizer)"
            " : has(self.config) && has(self.tokenizer)",
            "exactly one of source, or config with tokenizer, must be set",
            lambda self: (
                self.config is None and self.tokenizer is None
                if self.source is not None
                else self.config is not None and self.tokenizer is not None
            ),
        ),
        revision_rule("source"),
        credentials_rule("source", "config", "tokenizer"),
    )
    transitions = (
        Transition(
            " && ".join(
                f"(has(self.{name}) ? self.{name} : '') == (has(oldSelf.{name}) ? oldSelf.{name} : '')"
                for name in (field.alias or name for name, field in settings.ModelSource.model_fields.items())
                if name != "credentialsSecretRef"
            ),
            "may not change, since every stage starts from it: make a new run",
        ),
    )


class Dataset(settings.Dataset, Checked):
    """One source of documents or conversations."""

    rules = (credentials_rule("uri"),)


class Scale(settings.Scale, Checked):
    """The ends of a scale of scores."""

    rules = (
        Rule(
            "double(self.min) < double(self.max)",
            "scale.min must be below scale.max",
            lambda self: float(self.min) < float(self.max),
        ),
    )


class ExistingFeedback(settings.ExistingFeedback):
    """Feedback that the data already carry (FineWeb-Edu's or Dolma's scores, say): no judge is run."""

    scale: Annotated[Scale | None, InKey] = None
    """The scale that the scores are on, such as 0 and 5 of FineWeb-Edu's. It is cut into levels; what lies
    beyond counts as its end. Unset: levels have equal numbers of documents (calibration Quantile), since the
    extremes of the data say nothing about their scale."""


class Annotate(settings.Annotate):
    """Which documents get feedback, from where, and within which limits."""

    existing: Annotated[ExistingFeedback | None, InKey, Field(alias="from")] = None
    """Take feedback from the data instead of running a judge."""


class EvalTask(settings.EvalTask, Checked):
    """Questions with one right answer: jsonl with the fields prompt and answer."""

    rules = (credentials_rule("uri"),)


class HarnessTask(settings.HarnessTask, Checked):
    """A task, group or tag of lm-evaluation-harness."""

    rules = (credentials_rule("uri"),)


class Harness(settings.Harness):
    """Evaluation of the trained model by tasks of EleutherAI's lm-evaluation-harness."""

    tasks: Annotated[tuple[HarnessTask, ...], InKey, Field(min_length=1, max_length=32)]
    """What the model is asked, under each of evaluate.prefixes."""


class Evaluate(settings.Evaluate):
    """How a trained model is evaluated."""

    tasks: Annotated[tuple[EvalTask, ...], InKey, Field(max_length=32)] = ()
    """Tasks with right answers. Without any, only the held-out documents' log-probability is measured."""
    harness: Annotated[Harness | None, InKey] = None
    """Tasks of lm-evaluation-harness, which the trained model is asked at its end. Unset: none."""


class Comparison(StrEnum):
    """What the arms of a run have in common, so that they can be compared."""

    EQUAL_FLOPS = "EqualFlops"
    EQUAL_TOKENS = "EqualTokens"


class Arm(Checked):
    """One way to use the feedback, carried through all stages."""

    name: ShortName
    """Name of the arm, unique in the run."""
    method: Method = Method.CONDITIONED
    """Conditioned puts feedback before documents. The others are baselines: NextToken uses none, Filtered
    keeps the top level only, Annealed trains its last tenth on it, Shuffled permutes feedback over the
    documents. RejectionSampling is NextToken's like in runs with a Rollout stage, where it trains on verified
    answers only."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], Field(min_length=1, max_length=32), Distinct
    ] = (0,)
    """Each trains a model of its own: draws its initialisation, the order of its data, the documents that go
    without feedback (dropoutPercent), and for Shuffled whose feedback each gets. Which documents are
    annotated no seed draws, so that they are paid for once."""
    tokens_percent: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Training tokens in percent of train.maxTokens; for comparison EqualTokens, or a single arm."""
    sample_percent: Annotated[int | None, Field(ge=1, le=100)] = None
    """This arm's annotate.samplePercent, in every stage; Filtered arms need more than Conditioned ones."""

    rules = (
        Rule(
            f"!has(self.samplePercent) || !has(self.method) || !(self.method in {PLAIN_METHODS})",
            "a NextToken or RejectionSampling arm has no documents annotated: leave samplePercent out",
            lambda self: self.sample_percent is None or self.method.uses_feedback,
            "samplePercent",
        ),
    )


def _optional(model: type[Model]) -> Any:
    """The fields of a model as optional ones, unset by default."""
    found = {}
    for name, field in model.model_fields.items():
        given: Any = field.annotation
        found[name] = Annotated[given | None, *field.metadata], None
    return found


class ConditioningOverrides(create_model("Optional", __base__=Model, **_optional(Conditioning))):  # type: ignore[misc]
    """The fields of spec.conditioning that differ in one stage."""

    described_by: ClassVar[type[Model]] = Conditioning
    """Whose docstrings are those of these fields."""


class TrainSpec(settings.Train, Checked):
    """One training job."""

    resources_per_node: Annotated[Resources | None, NotInKey] = None
    """Resources of one pod of the training job, instead of the runtime's."""

    rules = (
        Rule(
            "!has(self.batchTokens) || self.batchTokens <= self.maxTokens",
            "batchTokens must be at most maxTokens",
            lambda self: self.batch_tokens <= self.max_tokens,
            "batchTokens",
        ),
        Rule(
            "!has(self.optimizer) || !has(self.optimizer.momentsPrecision)"
            " || self.optimizer.momentsPrecision == 'FP32'"
            " || !has(self.optimizer.beta2) || double(self.optimizer.beta2) <= 0.99",
            "momentsPrecision BF16 needs a beta2 of at most 0.99: smaller steps are lost in bfloat16",
            lambda self: (
                self.optimizer.moments_precision is MomentsPrecision.FP32
                or float(self.optimizer.beta2) <= 0.99
            ),
            "optimizer",
        ),
        range_rule("optimizer.learningRate", most=1),
        range_rule("optimizer.beta1", below=1),
        range_rule("optimizer.beta2", below=1),
        range_rule("optimizer.epsilon", above=0),
    )


class RolloutSpec(settings.Rollout, Checked):
    """Rounds of a model's own samples: written, verified or judged, and trained on with that feedback."""

    engine: Annotated[Engine, NotInKey] = Engine()
    """How the policy is served."""
    resources: Annotated[Resources | None, NotInKey] = None
    """Resources of one pod that serves the policy, instead of the runtime's for judges."""

    rules = (
        range_rule("temperature", most=2),
        range_rule("topP", above=0, most=1),
        range_rule("evaluation.temperature", most=2),
        range_rule("evaluation.topP", above=0, most=1),
    )


class Stage(Checked):
    """One stage of training; it starts from the model that the stage before it trained."""

    name: ShortName
    """Name of the stage, unique in the run."""
    type: StageType
    """Pretrain, Midtrain, SFT, or Rollout: training on the model's own samples, in rounds."""
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=32)]
    """What is trained on; of a Rollout stage the prompts."""
    rollout: RolloutSpec | None = None
    """How a Rollout stage's samples come about. Their answers are all annotated, whatever
    annotate.samplePercent says, and train.maxTokens are each round's."""
    annotate: Annotate = Annotate()
    """Which documents are annotated, how, and within which limits."""
    conditioning: ConditioningOverrides | None = None
    """What differs from spec.conditioning in this stage."""
    prepare: Prepare = Prepare()
    """How documents become training sequences."""
    train: TrainSpec
    """The training job."""
    evaluate: Evaluate = Evaluate()
    """How the trained model is evaluated."""

    rules = (
        Rule(
            "(self.type == 'Rollout') == has(self.rollout)",
            "a stage of type Rollout needs rollout, and no other stage has it",
            lambda self: (self.type == StageType.ROLLOUT) == (self.rollout is not None),
            "rollout",
        ),
        Rule(
            "self.type != 'Rollout' || !has(self.annotate)"
            " || (!has(self.annotate.from) && !has(self.annotate.referenceField))",
            "samples come without feedback: leave annotate.from and annotate.referenceField out",
            lambda self: (
                self.type != StageType.ROLLOUT
                or (self.annotate.existing is None and self.annotate.reference_field is None)
            ),
            "annotate",
        ),
        Rule(
            "!has(self.rollout) || !has(self.rollout.maxTokens) || !has(self.prepare)"
            " || !has(self.prepare.sequenceLength)"
            " || self.rollout.maxTokens < self.prepare.sequenceLength",
            "rollout.maxTokens must be below prepare.sequenceLength: longer answers would be cut in training",
            lambda self: self.rollout is None or self.rollout.max_tokens < self.prepare.sequence_length,
            "rollout",
        ),
        Rule(
            "self.type != 'SFT' || self.datasets.all(dataset, has(dataset.messagesField))",
            "an SFT stage trains on conversations: set messagesField in each of its datasets",
            lambda self: (
                self.type != StageType.SFT
                or all(dataset.messages_field is not None for dataset in self.datasets)
            ),
            "datasets",
        ),
        Rule(
            "!has(self.annotate) || !has(self.annotate.from) || !has(self.annotate.referenceField)",
            "feedback that the data carry has no reference: leave annotate.from or referenceField out",
            lambda self: self.annotate.existing is None or self.annotate.reference_field is None,
            "annotate",
        ),
        Rule(
            "!has(self.train.batchTokens) || !has(self.prepare) || !has(self.prepare.sequenceLength)"
            " || self.train.batchTokens % self.prepare.sequenceLength == 0",
            "train.batchTokens must be a multiple of prepare.sequenceLength",
            lambda self: self.train.batch_tokens % self.prepare.sequence_length == 0,
            "train",
        ),
        Rule(
            "!has(self.train.export) || self.train.export == 'Last' || (self.type != 'Rollout'"
            " && (!has(self.evaluate) || !has(self.evaluate.holdoutDocuments)"
            " || self.evaluate.holdoutDocuments > 0))",
            "train.export Best is chosen by held-out documents: set evaluate.holdoutDocuments above 0, or "
            "export Last (of a Rollout stage always)",
            lambda self: (
                self.train.export is Export.LAST
                or (self.type != StageType.ROLLOUT and self.evaluate.holdout_documents > 0)
            ),
            "train",
        ),
    )


Budget = Annotated[int, Field(ge=0, le=1000)]


class LanePolicy(StrEnum):
    """What becomes of the other lanes when one is given up."""

    CONTINUE = "Continue"
    FAIL_FAST = "FailFast"


class FailurePolicy(Model):
    """How often a step is started again after each class of fault. User faults are never retried."""

    lanes: LanePolicy = LanePolicy.CONTINUE
    """When a lane (an arm with one seed) is given up: Continue lets the others finish, and the run then fails
    with a report of those. FailFast ends the run at once."""
    infrastructure: Budget = 16
    """After an evicted or preempted pod, a lost node, a sick machine, unreachable storage; counted since the
    step last saved something."""
    application: Budget = 3
    """After a crash."""
    out_of_memory: Budget = 1
    """After a process ran out of memory."""
    diverged: Budget = 1
    """After a loss that is not finite."""
    hung: Budget = 3
    """After no progress for longer than the watchdog allows."""


def _needs_judge(spec: "RunSpec") -> bool:
    """Whether documents or samples are to get feedback that nothing but a judge gives."""
    uses = any(arm.method.uses_feedback for arm in spec.arms)
    return any(
        stage.rollout.verifier is None if stage.rollout else uses and stage.annotate.existing is None
        for stage in spec.stages
    )


def _samples(spec: "RunSpec") -> bool:
    """Whether a stage trains on the model's own samples."""
    return any(stage.type == StageType.ROLLOUT for stage in spec.stages)


def _format_of(spec: "RunSpec", stage: Stage) -> FeedbackFormat:
    return (stage.conditioning and stage.conditioning.format) or spec.conditioning.format


def _axes_come(spec: "RunSpec") -> bool:
    """Whether no stage wants scores by axis of existing feedback."""
    return not any(
        _format_of(spec, stage).needs_axes for stage in spec.stages if stage.annotate.existing is not None
    )


def _critiques_come(spec: "RunSpec") -> bool:
    """Whether no stage wants critiques from existing feedback that has none."""
    return all(
        not _format_of(spec, stage).needs_critique
        for stage in spec.stages
        if stage.annotate.existing is not None and stage.annotate.existing.critique_field is None
    )


class RunSpec(Spec):
    """What to train, on what, and how."""

    runtime_ref: RuntimeRef = RuntimeRef()
    """The IXTRuntime that says how this run's pods look."""
    storage: Storage
    """Where the run keeps its artifacts."""
    model: ModelSpec
    """The model to start from."""
    judge: JudgeSpec | None = None
    """The thinking reward model. Not needed when every arm is NextToken or every stage takes its feedback
    from the data."""
    conditioning: Conditioning = Conditioning()
    """How feedback becomes a prefix of the document."""
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, max_length=MAX_ARMS)] = (Arm(name="conditioned"),)
    """Ways to use the feedback that are compared; each runs through all stages once a seed."""
    comparison: Comparison = Comparison.EQUAL_FLOPS
    """EqualFlops: the reference arm, which is the first Conditioned one or else the first, trains on
    maxTokens; every other arm ends, with its schedule, where it has spent as many FLOPs, annotation, prefixes
    and earlier stages included. EqualTokens: every arm trains on its tokensPercent of maxTokens."""
    max_parallel_lanes: Annotated[int, Field(ge=1, le=512)] = 1
    """How many lanes (an arm with one seed) may have a step running at the same time."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=MAX_STAGES)]
    """The stages, in order."""
    trackers: Trackers | None = None
    """Experiment trackers that get the curves of the trainings."""
    pods: Pods = Pods()
    """Patches of the runtime's pods, of all and by role."""
    managed_by: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[-._~a-zA-Z0-9]+$",
            min_length=3,
            max_length=63,
        ),
    ] = MANAGER
    """Who carries the run out, as a domain and a path. The operator leaves runs alone that another controller
    does, for example kueue.x-k8s.io/multikueue."""
    queue_name: Annotated[
        str | None, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)
    ] = None
    """Kueue's LocalQueue that admits the run's Jobs."""
    suspend: bool = False
    """True: training saves its state, everything stops and its resources are free until this is false."""
    failure_policy: FailurePolicy = FailurePolicy()
    """How often a step is started again."""
    active_deadline_seconds: Annotated[int | None, Field(ge=1, le=YEAR)] = None
    """The run fails when it has not completed this long after its start; time suspended does not count."""
    scheduling_timeout_seconds: Annotated[int | None, Field(ge=1, le=YEAR)] = None
    """A lane is given up when a pod of it could not start for this long, and the run fails when a pod that
    lanes share could not: no node for it, no image, a missing Secret or claim, a quota. Waiting in a queue
    does not count. Unset: never."""
    ttl_seconds_after_finished: Annotated[int | None, Field(ge=0, le=YEAR)] = None
    """The run is deleted this long after it completed or failed; its artifacts stay. Unset: never."""

    rules = (
        Rule(
            "has(self.judge) || self.stages.all(stage, has(stage.rollout) ? has(stage.rollout.verifier) :"
            f" self.arms.all(arm, has(arm.method) && arm.method in {PLAIN_METHODS})"
            " || (has(stage.annotate) && has(stage.annotate.from)))",
            "a judge is needed: set judge, or annotate.from in every stage, or only NextToken arms; "
            "a Rollout stage can have rollout.verifier instead",
            lambda self: self.judge is not None or not _needs_judge(self),
            "judge",
        ),
        Rule(
            "self.stages.all(stage, !has(stage.annotate) || !has(stage.annotate.from)"
            " || has(stage.annotate.from.critiqueField)"
            " || (has(stage.conditioning) && has(stage.conditioning.format)"
            f" ? stage.conditioning.format : self.conditioning.format) in {PLAIN_FORMATS})",
            "existing feedback has no critiques without annotate.from.critiqueField: set it, or format Token",
            _critiques_come,
            "stages",
        ),
        Rule(
            "self.stages.all(stage, !has(stage.annotate) || !has(stage.annotate.from)"
            " || !((has(stage.conditioning) && has(stage.conditioning.format)"
            f" ? stage.conditioning.format : self.conditioning.format) in {AXES_FORMATS}))",
            "format Axes shows a judge's scores by axis, which feedback of the data lacks: take another",
            _axes_come,
            "stages",
        ),
        Rule(
            f"!self.stages.exists(stage, stage.type == 'Rollout')"
            f" || self.arms.all(arm, !has(arm.method) || arm.method in {SAMPLE_METHODS})",
            "NextToken and Annealed do not learn from own samples: in a run with a Rollout stage take "
            "RejectionSampling as the baseline",
            lambda self: not _samples(self) or all(arm.method.samples for arm in self.arms),
            "arms",
        ),
        Rule(
            "self.stages.exists(stage, stage.type == 'Rollout')"
            " || self.arms.all(arm, !has(arm.method) || arm.method != 'RejectionSampling')",
            "a RejectionSampling arm needs a Rollout stage: without one take NextToken",
            lambda self: (
                _samples(self) or all(arm.method is not Method.REJECTION_SAMPLING for arm in self.arms)
            ),
            "arms",
        ),
        Rule(
            "self.arms.all(arm, !has(arm.method) || arm.method != 'RejectionSampling')"
            " || self.stages.all(stage, !has(stage.rollout) || has(stage.rollout.verifier))",
            "a RejectionSampling arm trains on answers that are verified to be right: set rollout.verifier",
            lambda self: (
                all(arm.method is not Method.REJECTION_SAMPLING for arm in self.arms)
                or all(stage.rollout is None or stage.rollout.verifier is not None for stage in self.stages)
            ),
            "stages",
        ),
        Rule(
            "has(self.judge) || self.arms.all(arm, has(arm.method)"
            f" && arm.method in {PLAIN_METHODS}) || self.stages.all(stage, !has(stage.rollout)"
            " || (has(stage.conditioning) && has(stage.conditioning.format)"
            f" ? stage.conditioning.format : self.conditioning.format) in {LEVEL_FORMATS})",
            "answers that no judge reads have no critiques: set judge, or conditioning.format Token",
            lambda self: (
                self.judge is not None
                or all(not arm.method.uses_feedback for arm in self.arms)
                or all(stage.rollout is None or not _format_of(self, stage).says for stage in self.stages)
            ),
            "judge",
        ),
        Rule(
            "self.stages.all(stage, !has(stage.rollout) || self.arms.all(arm, (has(stage.rollout.rounds) ?"
            " stage.rollout.rounds : 3) * (has(arm.seeds) ? arm.seeds.size() : 1) * self.arms.size()"
            f" <= {MAX_ROUNDS}))",
            f"rounds times arms times seeds must be at most {MAX_ROUNDS}: split the run, runs share their "
            "artifacts",
            lambda self: all(
                stage.rollout.rounds * len(arm.seeds) * len(self.arms) <= MAX_ROUNDS
                for stage in self.stages
                if stage.rollout
                for arm in self.arms
            ),
            "stages",
        ),
        Rule(
            "(has(self.comparison) && self.comparison == 'EqualTokens')"
            " || !self.stages.exists(stage, stage.type == 'Rollout')"
            " || self.arms.all(arm, (has(arm.seeds) ? arm.seeds : [0])"
            " == (has(self.arms[0].seeds) ? self.arms[0].seeds : [0]))",
            "comparison EqualFlops plans the rounds of a lane by those of the reference arm's with the same "
            "seed: give all arms the same seeds, or set EqualTokens",
            lambda self: (
                self.comparison == Comparison.EQUAL_TOKENS
                or not _samples(self)
                or len({arm.seeds for arm in self.arms}) == 1
            ),
            "arms",
        ),
        Rule(
            "self.stages[0].type != 'Rollout' || has(self.model.source)",
            "a model that is initialised from scratch cannot answer prompts: set model.source, or train it "
            "in a stage before",
            lambda self: (
                all(stage.type != StageType.ROLLOUT for stage in [*self.stages][:1])
                or self.model.source is not None
            ),
            "model",
        ),
        Rule(
            f"self.arms.size() * self.stages.size() <= {MAX_ARM_STAGES}",
            f"arms times stages must be at most {MAX_ARM_STAGES}: split the run, runs share their artifacts",
            lambda self: len(self.arms) * len(self.stages) <= MAX_ARM_STAGES,
            "arms",
        ),
        Rule(
            "(has(self.comparison) && self.comparison == 'EqualTokens') || self.arms.size() < 2"
            " || self.arms.all(arm, !has(arm.tokensPercent) || arm.tokensPercent == 100)",
            "comparison EqualFlops plans the tokens of arms: leave tokensPercent out, or set EqualTokens",
            lambda self: (
                self.comparison == Comparison.EQUAL_TOKENS
                or len(self.arms) < 2
                or all(arm.tokens_percent == 100 for arm in self.arms)
            ),
            "comparison",
        ),
        Rule(
            f"self.stages.all(stage, self.arms.all(arm,"
            f" stage.train.maxTokens / 100 * arm.tokensPercent <= {MAX_TOKENS}))",
            f"an arm's tokensPercent of a stage's maxTokens must be at most {MAX_TOKENS} tokens",
            lambda self: all(
                stage.train.max_tokens // 100 * arm.tokens_percent <= MAX_TOKENS
                for stage in self.stages
                for arm in self.arms
            ),
            "arms",
        ),
    )
    transitions = (
        Transition(
            "self.managedBy == oldSelf.managedBy",
            "may not change, since no controller takes over what another began: make a new run",
            "managedBy",
        ),
    )


def conditioning_of(spec: RunSpec, stage: Stage) -> Conditioning:
    """The conditioning of one stage: the run's with the stage's overrides, lossOnFeedback resolved."""
    merged = spec.conditioning
    if stage.conditioning:
        merged = merged.model_copy(update=stage.conditioning.model_dump(exclude_none=True, by_alias=False))
    if merged.loss_on_feedback:
        return merged
    loss = LossOnFeedback.MASK if stage.type.is_chat else LossOnFeedback.INCLUDE
    return merged.model_copy(update={"loss_on_feedback": loss})


class IXTRun(Checked):
    """A training run: an ordered list of stages, each a chain of steps that make artifacts."""

    api_version: Literal["ixt.dev/v1alpha1"] = API_VERSION
    """Version of this API."""
    kind: Literal["IXTRun"] = "IXTRun"
    """IXTRun."""
    metadata: ObjectMeta
    """Name and namespace of the run."""
    spec: RunSpec
    """What to train, on what, and how."""
    status: RunStatus | None = None
    """What the operator found out; never written by users."""

    rules = (
        Rule(
            "self.metadata.name.size() <= 63",
            "metadata.name must have at most 63 characters: it becomes a label",
            lambda self: len(self.metadata.name) <= 63,
        ),
    )
    transitions = (
        Transition(
            # By position: the API server knows no bound for a list that CEL makes, and refuses its cost.
            f"!has(oldSelf.status) || !has(oldSelf.status.stages) || {list(range(MAX_STAGES))}.all(index,"
            " index >= oldSelf.status.stages.size() || !has(oldSelf.status.stages[index].steps)"
            " || !oldSelf.status.stages[index].steps.exists(step,"
            " step.kind != 'Inventory' && step.state != 'Waiting')"
            " || (index < self.spec.stages.size()"
            " && self.spec.stages[index].name == oldSelf.status.stages[index].name))",
            "a stage that has started keeps its name and place: new stages go behind it",
        ),
    )

    @classmethod
    def without_status(cls, manifest: Mapping[str, Any]) -> "IXTRun":
        """The run of a manifest. Its status is left out, which another version may have written."""
        return cls.model_validate({name: value for name, value in manifest.items() if name != "status"})

    @property
    def rubric_reference(self) -> ConfigMapKeyRef | None:
        """The ConfigMap that the rubric lies in, if it does."""
        return self.spec.judge.rubric.config_map_key_ref if self.spec.judge else None

    def with_rubric(self, text: RubricText) -> "IXTRun":
        """The run with this rubric, written out, for its judge."""
        assert self.spec.judge
        judge = self.spec.judge.model_copy(update={"rubric": RubricSpec(inline=text)})
        return self.model_copy(update={"spec": self.spec.model_copy(update={"judge": judge})})

    def with_metadata(self, **values: str) -> "IXTRun":
        """The run with other metadata."""
        return self.model_copy(update={"metadata": self.metadata.model_copy(update=values)})
