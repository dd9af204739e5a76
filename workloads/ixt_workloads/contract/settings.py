"""The settings of every step. The CRD embeds these models, and so do the configs of steps (configs.py).

Every field says whether it is part of its step's key: `InKey` for what changes the artifact's meaning,
`NotInKey` for where, how fast and on what the step runs. Places (URIs) are not in keys, since the content
found there is pinned by Inventory and enters the key as an input.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from ixt_workloads.contract.base import DataUri, Decimal, InKey, Model, Name, NotInKey, Percent
from ixt_workloads.contract.credentials import SecretRef
from ixt_workloads.contract.rubrics import RubricText


class StageType(StrEnum):
    """What a stage trains."""

    PRETRAIN = "Pretrain"
    MIDTRAIN = "Midtrain"
    SFT = "SFT"
    ROLLOUT = "Rollout"

    @property
    def is_chat(self) -> bool:
        """It trains on conversations: the feedback stands in the system text, and is not in the loss unless
        the run says so."""
        return self in (StageType.SFT, StageType.ROLLOUT)


class Method(StrEnum):
    """How an arm uses the feedback: docs/api.md says under `spec.arms[].method` what each does."""

    CONDITIONED = "Conditioned"
    NEXT_TOKEN = "NextToken"
    FILTERED = "Filtered"
    ANNEALED = "Annealed"
    SHUFFLED = "Shuffled"

    @property
    def uses_feedback(self) -> bool:
        """It needs feedback on its documents, and pays for it."""
        return self is not Method.NEXT_TOKEN

    @property
    def conditions(self) -> bool:
        """Feedback stands before its documents."""
        return self in (Method.CONDITIONED, Method.SHUFFLED)


class DataFormat(StrEnum):
    """How a dataset's files are read."""

    AUTO = "Auto"
    JSONL = "Jsonl"
    PARQUET = "Parquet"
    TEXT = "Text"


class Dataset(Model):
    """One source of documents or conversations."""

    name: Annotated[Name, InKey]
    """Name of the dataset, unique in its stage; shown in counts and reports."""
    uri: Annotated[DataUri, NotInKey]
    """File or folder with the data; a folder with all that lies below it. hf://owner/name is a dataset of the
    Hugging Face hub, hf://owner/name@revision/path a part of it."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret in the run's namespace whose entries (AWS_*, GOOGLE_*, HF_TOKEN) uri is read with, instead of
    all such variables of the pods. Unset: it is read with those."""
    format: Annotated[DataFormat, InKey] = DataFormat.AUTO
    """Jsonl (also .gz and .zst), Parquet, or Text (one document a file). Auto goes by the file's ending and
    leaves out a README.md that describes the data."""
    text_field: Annotated[str, InKey, Field(min_length=1, max_length=128)] = "text"
    """Field or column that holds a document's text. Not used for chat data and text files."""
    messages_field: Annotated[str | None, InKey, Field(min_length=1, max_length=128)] = None
    """Field or column that holds a conversation: a list of {role, content}. Set it for SFT data."""
    weight: Annotated[int, InKey, Field(ge=1, le=1000)] = 100
    """Percent of the documents in one pass: 50 takes a fixed half of them, 200 takes each twice."""


class ExistingFeedback(Model):
    """Feedback that the data already carry (FineWeb-Edu's or Dolma's scores, say): no judge is run."""

    score_field: Annotated[str, InKey, Field(min_length=1, max_length=128)]
    """Field or column with a number: the higher, the better."""
    critique_field: Annotated[str | None, InKey, Field(min_length=1, max_length=128)] = None
    """Field or column with a critique in words. Needed for the formats with a critique."""


class Gates(Model):
    """Limits that annotation must keep; beyond one, the run fails instead of training on bad feedback."""

    max_invalid_percent: Annotated[Percent, InKey] = 20
    """Most documents, in percent, for which the judge gave no valid feedback after all retries."""
    max_overlap_percent: Annotated[Percent, InKey] = 50
    """Most 8-grams of the critiques, in percent, that may be copied from their documents (leakage)."""


class Annotate(Model):
    """Which documents get feedback, from where, and within which limits."""

    sample_percent: Annotated[int, InKey, Field(ge=1, le=100)] = 15
    """Percent of the documents that get feedback; the rest train unconditioned."""
    existing: Annotated[ExistingFeedback | None, InKey, Field(alias="from")] = None
    """Take feedback from the data instead of running a judge."""
    gates: Annotated[Gates, InKey] = Gates()
    """Limits that the feedback must keep."""
    workers: Annotated[int, NotInKey, Field(ge=1, le=256)] = 1
    """Annotation clients that share the documents among them."""
    deadline_seconds: Annotated[int | None, NotInKey, Field(ge=1, le=31_536_000)] = None
    """When annotation should be done: the number of judge replicas is chosen to keep it."""


class Sampling(Model):
    """How the judge's answers are sampled."""

    temperature: Annotated[Decimal, InKey] = "0"
    """0 is greedy decoding."""
    top_p: Annotated[Decimal, InKey] = "1"
    """Nucleus sampling."""
    max_tokens: Annotated[int, InKey, Field(ge=16, le=131_072)] = 2048
    """Most tokens of reasoning and feedback together in one answer."""
    retries: Annotated[int, InKey, Field(ge=0, le=10)] = 2
    """How often an invalid answer is asked for again (greedy answers are retried at temperature 0.7)."""


class Judge(Model):
    """What decides how the judge reads a document. The judge's weights enter the key as a pin."""

    source: Annotated[DataUri | None, NotInKey] = None
    """Folder or hub repository with the judge's weights; none with an endpoint."""
    revision: Annotated[str | None, NotInKey, Field(min_length=1, max_length=128)] = None
    """Branch, tag or commit of a hub repository; resolved to a commit by Inventory."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret that source is read with, as for a dataset."""
    model: Annotated[str | None, InKey, Field(min_length=1, max_length=256)] = None
    """Name that an external endpoint knows the judge by; none with weights of our own."""
    active_parameters: Annotated[int | None, NotInKey, Field(ge=1)] = None
    """Active matmul parameters of an external judge, for the cost account; read from our own weights."""
    rubric: Annotated[RubricText, InKey]
    """What the judge is asked for."""
    sampling: Annotated[Sampling, InKey] = Sampling()
    """How answers are sampled."""
    reasoning_parser: Annotated[str | None, InKey, Field(pattern=r"^[a-z0-9_]{1,40}$")] = None
    """vLLM's name of the parser that separates reasoning from the answer, for example deepseek_r1."""


class FeedbackFormat(StrEnum):
    """What the prefix holds."""

    TOKEN = "Token"
    CRITIQUE = "Critique"
    TOKEN_AND_CRITIQUE = "TokenAndCritique"

    @property
    def shows_level(self) -> bool:
        """The prefix names a quality level."""
        return self is not FeedbackFormat.CRITIQUE

    @property
    def needs_critique(self) -> bool:
        """The prefix holds a critique."""
        return self is not FeedbackFormat.TOKEN

    @property
    def says(self) -> bool:
        """The prefix says more of a document than its level: without that a document has no prefix."""
        return self.needs_critique


class Calibration(StrEnum):
    """How raw scores become levels."""

    FIXED = "Fixed"
    QUANTILE = "Quantile"


class LossOnFeedback(StrEnum):
    """Whether the prefix is in the loss."""

    INCLUDE = "Include"
    MASK = "Mask"


class Conditioning(Model):
    """How feedback becomes a prefix of the document."""

    format: Annotated[FeedbackFormat, InKey] = FeedbackFormat.TOKEN_AND_CRITIQUE
    """Token: a quality level. Critique: the judge's words. TokenAndCritique: both."""
    levels: Annotated[int, InKey, Field(ge=2, le=10)] = 5
    """Number of quality levels; the highest is the best."""
    calibration: Annotated[Calibration, InKey] = Calibration.FIXED
    """Fixed: equal parts of the rubric's scale. Quantile: equal numbers of documents a level."""
    dropout_percent: Annotated[Percent, InKey] = 10
    """Percent of the annotated documents that train without their feedback, so that the model also works
    without a prefix."""
    max_feedback_tokens: Annotated[int, InKey, Field(ge=8, le=4096)] = 256
    """Longer feedback is cut at this many tokens of the trained model's tokenizer."""
    loss_on_feedback: Annotated[LossOnFeedback | None, InKey] = None
    """Whether the prefix is in the loss. Unset: Include, but Mask for SFT and Rollout."""
    inference_feedback: Annotated[str | None, InKey, Field(min_length=1, max_length=2048)] = None
    """Critique that asks for the best at inference. Unset: the rubric's ideal critique."""


class Prepare(Model):
    """How documents become training sequences."""

    sequence_length: Annotated[int, InKey, Field(ge=32, le=1_048_576)] = 2048
    """Tokens in one packed sequence."""
    workers: Annotated[int, NotInKey, Field(ge=1, le=256)] = 1
    """Processes that share the documents among them."""


class Optimizer(Model):
    """AdamW."""

    learning_rate: Annotated[Decimal, InKey] = "3e-4"
    """Peak learning rate."""
    weight_decay: Annotated[Decimal, InKey] = "0.1"
    """Decoupled weight decay, on matrices only."""
    beta1: Annotated[Decimal, InKey] = "0.9"
    """Decay of the first moment."""
    beta2: Annotated[Decimal, InKey] = "0.95"
    """Decay of the second moment."""
    epsilon: Annotated[Decimal, InKey] = "1e-8"
    """Added to the denominator."""
    max_grad_norm: Annotated[Decimal, InKey] = "1.0"
    """Gradients are clipped to this norm; 0 turns clipping off."""


class ScheduleType(StrEnum):
    """Shape of the learning rate."""

    COSINE = "Cosine"
    WARMUP_STABLE_DECAY = "WarmupStableDecay"
    CONSTANT = "Constant"


class Schedule(Model):
    """Learning rate over the run."""

    type: Annotated[ScheduleType, InKey] = ScheduleType.COSINE
    """Shape after the warm-up."""
    warmup_percent: Annotated[Percent, InKey] = 2
    """Percent of the steps with a linear warm-up."""
    decay_percent: Annotated[Percent, InKey] = 20
    """WarmupStableDecay: percent of the steps, at the end, in which the rate falls linearly."""
    final_percent: Annotated[Percent, InKey] = 10
    """Learning rate at the end, in percent of the peak."""


class Precision(StrEnum):
    """Number format that training computes in."""

    FP32 = "FP32"
    BF16 = "BF16"


class Parallelism(StrEnum):
    """How a model is spread over ranks."""

    AUTO = "Auto"
    REPLICATE = "Replicate"
    FULLY_SHARD = "FullyShard"


class Compile(StrEnum):
    """When torch.compile is used."""

    AUTO = "Auto"
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Checkpoint(Model):
    """When training saves its state to resume from."""

    interval_seconds: Annotated[int, NotInKey, Field(ge=1, le=86_400)] = 600
    """Seconds between checkpoints; one more is saved on SIGTERM and at the end."""
    keep: Annotated[int, NotInKey, Field(ge=1, le=100)] = 2
    """Checkpoints that are kept, the newest."""


class Train(Model):
    """One training job."""

    max_tokens: Annotated[int, InKey, Field(ge=1, le=10**15)]
    """Tokens to train on, feedback included. An arm's tokensPercent scales it."""
    batch_tokens: Annotated[int, InKey, Field(ge=32, le=10**12)] = 524_288
    """Tokens in one optimizer step over all ranks."""
    optimizer: Annotated[Optimizer, InKey] = Optimizer()
    """AdamW's settings."""
    schedule: Annotated[Schedule, InKey] = Schedule()
    """Learning rate over the run."""
    precision: Annotated[Precision, InKey] = Precision.BF16
    """BF16: bfloat16 compute with float32 weights and optimizer state. FP32: float32 throughout."""
    eval_every_tokens: Annotated[int | None, InKey, Field(ge=1, le=10**15)] = None
    """Evaluate on the held-out documents and tasks each time this many tokens are trained."""
    num_nodes: Annotated[int, NotInKey, Field(ge=1, le=4096)] = 1
    """Pods of the training job."""
    num_proc_per_node: Annotated[int, NotInKey, Field(ge=1, le=64)] = 1
    """Ranks in one pod: its GPUs, or processes on a CPU."""
    micro_batch_sequences: Annotated[int | None, NotInKey, Field(ge=1, le=65_536)] = None
    """Sequences in one forward pass of one rank. Unset: chosen from model, memory and batchTokens."""
    parallelism: Annotated[Parallelism, NotInKey] = Parallelism.AUTO
    """Auto replicates a model that fits on a rank with its optimizer state and shards others (FSDP2)."""
    compile: Annotated[Compile, NotInKey] = Compile.AUTO
    """torch.compile. Auto: where it pays for its start-up."""
    checkpoint: Annotated[Checkpoint, NotInKey] = Checkpoint()
    """When training saves its state."""


class EvalPrefix(StrEnum):
    """Feedback that an evaluation asks for."""

    BEST = "Best"
    NONE = "None"
    WORST = "Worst"
    RANDOM = "Random"


class EvalTask(Model):
    """Questions with one right answer: jsonl with the fields prompt and answer."""

    name: Annotated[Name, InKey]
    """Name of the task, unique in its stage."""
    uri: Annotated[DataUri, NotInKey]
    """The jsonl file."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret that uri is read with, as for a dataset."""
    max_items: Annotated[int, InKey, Field(ge=1, le=100_000)] = 1000
    """At most this many questions, from the start of the file."""


class Evaluate(Model):
    """How a trained model is judged."""

    tasks: Annotated[tuple[EvalTask, ...], InKey, Field(max_length=32)] = ()
    """Tasks with right answers. Without any, only the held-out documents' log-probability is measured."""
    prefixes: Annotated[tuple[EvalPrefix, ...], InKey, Field(min_length=1, max_length=4)] = tuple(EvalPrefix)
    """Feedback that is asked for: the best, none, the worst, random."""
    holdout_documents: Annotated[int, InKey, Field(ge=0, le=100_000)] = 256
    """Documents that are never trained on, annotated for the evaluation alone."""
    max_new_tokens: Annotated[int, InKey, Field(ge=1, le=8192)] = 64
    """Tokens of each sample that the report shows."""


class ModelSource(Model):
    """The model to start from: a checkpoint, or a configuration to initialise from scratch."""

    source: Annotated[DataUri | None, NotInKey] = None
    """Folder or hub repository with config, tokenizer and safetensors weights."""
    revision: Annotated[str | None, NotInKey, Field(min_length=1, max_length=128)] = None
    """Branch, tag or commit of a hub repository."""
    config: Annotated[DataUri | None, NotInKey] = None
    """Folder with a config.json: the model is initialised from scratch by each arm's seed."""
    tokenizer: Annotated[DataUri | None, NotInKey] = None
    """Folder with the tokenizer, for a model from scratch."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret that source, or config and tokenizer, are read with, as for a dataset."""
