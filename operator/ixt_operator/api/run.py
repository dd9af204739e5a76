"""IXTRun: a training run as its user writes it."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from ixt_operator.api.judge import JudgeSpec
from ixt_operator.api.meta import API_VERSION, Distinct, ObjectMeta
from ixt_operator.api.overrides import Pods, Resources
from ixt_operator.api.rules import Checked, Rule, Spec, Transition, credentials_rule, words
from ixt_operator.api.status import RunStatus
from ixt_workloads.contract import settings
from ixt_workloads.contract.base import InKey, Model, Name, NotInKey, ObjectName, StorageUri
from ixt_workloads.contract.credentials import SecretRef
from ixt_workloads.contract.settings import (
    Annotate,
    Conditioning,
    FeedbackFormat,
    LossOnFeedback,
    Method,
    Prepare,
    StageType,
)

MAX_STAGES = 16
MAX_ARMS = 16
MAX_ARM_STAGES = 40
"""Arms times stages: keeps the status small enough to be stored."""
MAX_TOKENS = 10**15
"""Tokens that an arm trains on in a stage."""

YEAR = 31_536_000

PLAIN_METHODS = words(method for method in Method if not method.uses_feedback)
PLAIN_FORMATS = words(form for form in FeedbackFormat if not form.needs_critique)

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
        Rule(
            "!has(self.revision) || (has(self.source) && self.source.startsWith('hf://'))",
            "revision is for an hf:// source only: leave it out",
            lambda self: self.revision is None or bool(self.source and self.source.startswith("hf://")),
            "revision",
        ),
        credentials_rule("source", "config", "tokenizer"),
    )
    transitions = (
        Transition(
            " && ".join(
                f"(has(self.{name}) ? self.{name} : '') == (has(oldSelf.{name}) ? oldSelf.{name} : '')"
                for name in settings.ModelSource.model_fields
                if name != "credentials_secret_ref"
            ),
            "may not change, since every stage starts from it: make a new run",
        ),
    )


class Dataset(settings.Dataset, Checked):
    """One source of documents or conversations."""

    rules = (credentials_rule("uri"),)


class EvalTask(settings.EvalTask, Checked):
    """Questions with one right answer: jsonl with the fields prompt and answer."""

    rules = (credentials_rule("uri"),)


class Evaluate(settings.Evaluate):
    """How a trained model is evaluated."""

    tasks: Annotated[tuple[EvalTask, ...], InKey, Field(max_length=32)] = ()
    """Tasks with right answers. Without any, only the held-out documents' log-probability is measured."""


class Arm(Checked):
    """One way to use the feedback, carried through all stages."""

    name: ShortName
    """Name of the arm, unique in the run."""
    method: Method = Method.CONDITIONED
    """Conditioned puts feedback before documents. The others are baselines: NextToken uses none, Filtered
    keeps the top level only, Annealed trains its last tenth on it, Shuffled permutes feedback over the
    documents."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], Field(min_length=1, max_length=32), Distinct
    ] = (0,)
    """Seeds of initialisation and data order; each trains a model of its own."""
    tokens_percent: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Training tokens in percent of train.maxTokens, so that arms can be compared at equal FLOPs."""
    sample_percent: Annotated[int | None, Field(ge=1, le=100)] = None
    """This arm's annotate.samplePercent, in every stage; Filtered arms need more than Conditioned ones."""

    rules = (
        Rule(
            f"!has(self.samplePercent) || !has(self.method) || !(self.method in {PLAIN_METHODS})",
            "a NextToken arm uses no feedback: leave samplePercent out",
            lambda self: self.sample_percent is None or self.method.uses_feedback,
            "samplePercent",
        ),
    )


def _optional(model: type[Model]) -> Any:
    """The fields of a model as optional ones, unset by default."""
    found = {}
    for name, field in model.model_fields.items():
        given: Any = field.annotation
        found[name] = Annotated[given | None, *field.metadata], Field(None, description=field.description)
    return found


class ConditioningOverrides(create_model("Optional", __base__=Model, **_optional(Conditioning))):  # type: ignore[misc]
    """The fields of spec.conditioning that differ in one stage."""


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
    )


class Stage(Checked):
    """One stage of training; it starts from the model that the stage before it trained."""

    name: ShortName
    """Name of the stage, unique in the run."""
    type: StageType
    """Pretrain, Midtrain or SFT. Rollout (training on the model's own samples) is not supported yet."""
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=32)]
    """What is trained on."""
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
            "self.type != 'Rollout'",
            "Rollout is not supported yet: use Pretrain, Midtrain or SFT",
            lambda self: self.type != StageType.ROLLOUT,
            "type",
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
            "!has(self.train.batchTokens) || !has(self.prepare) || !has(self.prepare.sequenceLength)"
            " || self.train.batchTokens % self.prepare.sequenceLength == 0",
            "train.batchTokens must be a multiple of prepare.sequenceLength",
            lambda self: self.train.batch_tokens % self.prepare.sequence_length == 0,
            "train",
        ),
    )


class FailurePolicy(Model):
    """How often a step is started again after each class of fault. User faults are never retried."""

    infrastructure: Annotated[int, Field(ge=0, le=1000)] = 16
    """After an evicted or preempted pod, a lost node, a sick machine, unreachable storage."""
    application: Annotated[int, Field(ge=0, le=1000)] = 3
    """After a crash."""
    out_of_memory: Annotated[int, Field(ge=0, le=1000)] = 1
    """After a process ran out of memory."""
    diverged: Annotated[int, Field(ge=0, le=1000)] = 1
    """After a loss that is not finite."""
    hung: Annotated[int, Field(ge=0, le=1000)] = 3
    """After no progress for longer than the watchdog allows."""


def _needs_judge(spec: "RunSpec") -> bool:
    return any(arm.method.uses_feedback for arm in spec.arms) and any(
        stage.annotate.existing is None for stage in spec.stages
    )


def _critiques_come(spec: "RunSpec") -> bool:
    """Whether no stage wants critiques from existing feedback that has none."""
    return all(
        not ((stage.conditioning and stage.conditioning.format) or spec.conditioning.format).needs_critique
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
    max_parallel_lanes: Annotated[int, Field(ge=1, le=512)] = 1
    """How many lanes (an arm with one seed) may have a step running at the same time."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=MAX_STAGES)]
    """The stages, in order."""
    pods: Pods = Pods()
    """Changes to the runtime's pods by role."""
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
    scheduling_timeout_seconds: Annotated[int, Field(ge=1, le=YEAR)] = 3600
    """The run fails when a pod could not start for this long: no node for it, no image, a missing Secret or
    claim, a quota. Waiting in a queue does not count."""
    ttl_seconds_after_finished: Annotated[int | None, Field(ge=0, le=YEAR)] = None
    """The run is deleted this long after it completed or failed; its artifacts stay. Unset: never."""

    rules = (
        Rule(
            f"has(self.judge) || self.arms.all(arm, has(arm.method) && arm.method in {PLAIN_METHODS})"
            " || self.stages.all(stage, has(stage.annotate) && has(stage.annotate.from))",
            "a judge is needed: set judge, or annotate.from in every stage, or only NextToken arms",
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
            f"self.arms.size() * self.stages.size() <= {MAX_ARM_STAGES}",
            f"arms times stages must be at most {MAX_ARM_STAGES}: split the run, runs share their artifacts",
            lambda self: len(self.arms) * len(self.stages) <= MAX_ARM_STAGES,
            "arms",
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
