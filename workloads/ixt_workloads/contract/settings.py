"""The settings of every step. The CRD embeds these models, and so do the configs of steps (configs.py).

Every field says whether it is part of its step's key: `InKey` for what changes the artifact's meaning,
`NotInKey` for where, how fast and on what the step runs. Places (URIs) are not in keys, since the content
found there is pinned by Inventory and enters the key as an input.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from ixt_workloads.contract.base import (
    DataUri,
    Decimal,
    Gpus,
    InKey,
    Model,
    Name,
    NotInKey,
    Number,
    Percent,
)
from ixt_workloads.contract.credentials import SecretRef
from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.verifiers import EvalSampling, JudgeSees, Verifier


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
    REJECTION_SAMPLING = "RejectionSampling"

    @property
    def uses_feedback(self) -> bool:
        """It needs feedback on its documents, and pays for it. On its own samples every method does."""
        return self not in (Method.NEXT_TOKEN, Method.REJECTION_SAMPLING)

    @property
    def samples(self) -> bool:
        """It can learn from its own samples: what the others leave out or change needs documents."""
        return self not in (Method.NEXT_TOKEN, Method.ANNEALED)

    @property
    def judges_samples(self) -> bool:
        """It learns from what a judge says of its samples: what a verifier says is not enough."""
        return self is not Method.REJECTION_SAMPLING

    @property
    def on_documents(self) -> "Method":
        """What it does with documents, where it is one for samples."""
        return Method.NEXT_TOKEN if self is Method.REJECTION_SAMPLING else self

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
    CSV = "Csv"
    JSON = "Json"
    ARROW = "Arrow"


class Dataset(Model):
    """One source of documents or conversations."""

    name: Annotated[Name, InKey]
    """Name of the dataset, unique in its stage; shown in counts and reports."""
    uri: Annotated[DataUri, NotInKey]
    """File or folder with the data; a folder with all that lies below it. hf://owner/name is a dataset of the
    Hugging Face hub with all its splits, hf://owner/name@revision/path a part of it, such as a config's
    folder."""
    split: Annotated[str | None, NotInKey, Field(min_length=1, max_length=64)] = None
    """Only files whose name or folder says that they are of this split, as on the hub: train takes
    train-00000.parquet and data/train/a.jsonl. Unset: all files."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret in the run's namespace whose entries (AWS_*, GOOGLE_*, HF_TOKEN) uri is read with, instead of
    all such variables of the pods. Unset: it is read with those."""
    format: Annotated[DataFormat, InKey] = DataFormat.AUTO
    """Jsonl, Json (an array of objects) or Csv (with a line of names), each also packed with gzip or zstd,
    Parquet, Arrow, or Text (one document a file). Auto goes by the file's ending and leaves out a README.md
    that describes the data and a .json that is no array."""
    text_field: Annotated[str, InKey, Field(min_length=1, max_length=128)] = "text"
    """Field or column that holds a document's text. Not used for chat data and text files."""
    messages_field: Annotated[str | None, InKey, Field(min_length=1, max_length=128)] = None
    """Field or column that holds a conversation: a list of {role, content}, as OpenAI's API has it, with
    tool_calls, reasoning_content and weight; a field `tools` beside it has the tools. Set it for SFT data."""
    prompt_field: Annotated[str, InKey, Field(min_length=1, max_length=128)] = "prompt"
    """Rollout: field or column that holds a prompt: a text, or a list of {role, content}."""
    answer_field: Annotated[str | None, InKey, Field(min_length=1, max_length=128)] = None
    """Rollout: field or column with a prompt's reference answer, a dot before a field in it. Unset: the first
    of answer, ground_truth, reward_model.ground_truth, reward_spec.ground_truth and solution of a row."""
    weight: Annotated[int, InKey, Field(ge=1, le=1000)] = 100
    """Percent of the documents in one pass: 50 takes a fixed half of them, 200 takes each twice."""


class Scale(Model):
    """The ends of a scale of scores."""

    min: Annotated[Number, InKey]
    """The worst score that there can be, as a string."""
    max: Annotated[Number, InKey]
    """The best one."""


class ExistingFeedback(Model):
    """Feedback that the data already carry (FineWeb-Edu's or Dolma's scores, say): no judge is run."""

    score_field: Annotated[str, InKey, Field(min_length=1, max_length=128)]
    """Field or column with a number: the higher, the better."""
    critique_field: Annotated[str | None, InKey, Field(min_length=1, max_length=128)] = None
    """Field or column with a critique in words. Needed for the formats with a critique."""


class Gate(StrEnum):
    """What a gate looks at, as its field is named."""

    INVALID = "Invalid"
    OVERLAP = "Overlap"
    DISAGREEMENT = "Disagreement"
    REFERENCE = "Reference"
    REWRITING = "Rewriting"
    ONE_SCORE = "OneScore"
    TRUNCATED = "Truncated"
    CONTRADICTION = "Contradiction"
    QUOTING = "Quoting"


class Gates(Model):
    """Limits that annotation must keep; beyond one, the run fails instead of training on bad feedback. From
    500 documents on, the judge is tried on the first 32 before it reads the rest."""

    max_invalid_percent: Annotated[Percent, InKey] = 20
    """Most documents, in percent, for which the judge gave no valid feedback after all retries."""
    max_overlap_percent: Annotated[Percent, InKey] = 10
    """Most 8-grams of the critiques, in percent, that may be copied from their documents (leakage)."""
    max_disagreement_percent: Annotated[Percent, InKey] = 15
    """First sample: most that two readings of a document may differ, on average, in percent of the scale."""
    max_rewriting_percent: Annotated[Percent, InKey] = 20
    """First sample: most that a document and the same in lower case, with other white space or under a
    heading may differ."""
    min_reference_percent: Annotated[Percent, InKey] = 30
    """First sample: least rank correlation with referenceField, times 100."""
    max_one_score_percent: Annotated[Percent, InKey] = 90
    """First sample: most documents that may have the same score. And of all feedback: the same level."""
    max_truncated_percent: Annotated[Percent, InKey] = 50
    """First sample: most documents that may not fit the judge's context."""
    max_contradiction_percent: Annotated[Percent, InKey] = 40
    """Most answers, in percent of those that a verifier and the judge both scored, of which the judge thinks
    well although they are wrong, or ill although they are right."""
    max_quoting_percent: Annotated[Percent, InKey] = 10
    """Most critiques, in percent, that may hold the reference answer where the prompt does not (leakage)."""
    warn: Annotated[tuple[Gate, ...], InKey, Field(max_length=9, json_schema_extra={"uniqueItems": True})] = (
        Gate.REWRITING,
        Gate.ONE_SCORE,
        Gate.TRUNCATED,
    )
    """Gates that warn in the status instead of ending the run."""


class Annotate(Model):
    """Which documents get feedback, from where, and within which limits."""

    sample_percent: Annotated[int, InKey, Field(ge=1, le=100)] = 15
    """Percent of the documents that get feedback; the rest train unconditioned."""
    existing: Annotated[ExistingFeedback | None, InKey, Field(alias="from")] = None
    """Take feedback from the data instead of running a judge."""
    reference_field: Annotated[str | None, InKey, Field(min_length=1, max_length=128)] = None
    """Field or column with a number that the judge's scores should go with, such as people's ratings."""
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
    top_k: Annotated[int | None, InKey, Field(ge=1, le=1_000_000)] = None
    """Only so many of the most likely tokens are drawn from. Unset: from all."""
    min_p: Annotated[Decimal | None, InKey] = None
    """Tokens less likely than this share of the most likely one's probability are not drawn. Unset: all."""
    presence_penalty: Annotated[Decimal | None, InKey] = None
    """Taken off the logits of tokens that the answer has already. Unset: nothing."""
    thinking_tokens: Annotated[int | None, InKey, Field(ge=1, le=131_072)] = None
    """Most tokens of reasoning, for servers that keep such a budget (vLLM with --reasoning-config). Unset:
    only maxTokens ends it."""
    max_tokens: Annotated[int, InKey, Field(ge=16, le=131_072)] = 2048
    """Most tokens of reasoning and feedback together in one answer."""
    retries: Annotated[int, InKey, Field(ge=0, le=10)] = 2
    """How often an invalid answer is asked for again (greedy answers are retried at temperature 0.7)."""


class ChatTemplateKwarg(Model):
    """Something that a judge's chat template is told."""

    name: Annotated[str, InKey, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", min_length=1, max_length=64)]
    """What the template calls it, for example enable_thinking."""
    value: Annotated[str, InKey, Field(max_length=1024)]
    """Its value as JSON, such as false or 4; what is no JSON is a text."""


ChatTemplateKwargs = Annotated[tuple[ChatTemplateKwarg, ...], Field(max_length=16)]


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
    second: Annotated[str | None, NotInKey, Field(min_length=1, max_length=256)] = None
    """Name that another endpoint knows a second judge by, which reads the first sample too."""
    rubric: Annotated[RubricText, InKey]
    """What the judge is asked for."""
    sampling: Annotated[Sampling, InKey] = Sampling()
    """How answers are sampled."""
    reasoning_parser: Annotated[str | None, InKey, Field(pattern=r"^[a-z0-9_]{1,40}$")] = None
    """vLLM's name of the parser that separates reasoning from the answer, for example deepseek_r1."""
    system_prompt: Annotated[str | None, InKey, Field(min_length=1, max_length=16_384)] = None
    """System text of every request; unset: none."""
    chat_template_kwargs: Annotated[ChatTemplateKwargs, InKey] = ()
    """What the judge's chat template is told."""
    engine_args: Annotated[tuple[str, ...], InKey] = ()
    """Those options of the engine that change what the judge says."""


class FeedbackFormat(StrEnum):
    """What the prefix holds."""

    TOKEN = "Token"
    CRITIQUE = "Critique"
    TOKEN_AND_CRITIQUE = "TokenAndCritique"
    AXES = "Axes"

    @property
    def shows_level(self) -> bool:
        """The prefix names a quality level."""
        return self in (FeedbackFormat.TOKEN, FeedbackFormat.TOKEN_AND_CRITIQUE)

    @property
    def needs_critique(self) -> bool:
        """The prefix holds a critique."""
        return self in (FeedbackFormat.CRITIQUE, FeedbackFormat.TOKEN_AND_CRITIQUE)

    @property
    def needs_axes(self) -> bool:
        """The prefix holds the scores of the rubric's axes, which only a judge gives."""
        return self is FeedbackFormat.AXES

    @property
    def says(self) -> bool:
        """The prefix says more of a document than its level: without that a document has no prefix."""
        return self.needs_critique or self.needs_axes


class Calibration(StrEnum):
    """How raw scores become levels."""

    FIXED = "Fixed"
    QUANTILE = "Quantile"


class LossOnFeedback(StrEnum):
    """Whether the prefix is in the loss."""

    INCLUDE = "Include"
    MASK = "Mask"


class LevelFrom(StrEnum):
    """What the level of a model's own answer comes from."""

    VERIFIER = "Verifier"
    JUDGE = "Judge"
    BOTH = "Both"


class Conditioning(Model):
    """How feedback becomes a prefix of the document."""

    format: Annotated[FeedbackFormat, InKey] = FeedbackFormat.TOKEN_AND_CRITIQUE
    """Token: a quality level. Critique: the judge's words. TokenAndCritique: both. Axes: the judge's scores
    by axis, as text."""
    levels: Annotated[int, InKey, Field(ge=2, le=10)] = 5
    """Number of quality levels; the highest is the best."""
    calibration: Annotated[Calibration, InKey] = Calibration.FIXED
    """Fixed: equal parts of the rubric's scale. Quantile: equal numbers of documents a level."""
    level_from: Annotated[LevelFrom | None, InKey] = None
    """Rollout: Verifier: how right an answer is. Judge: its score. Both: two thirds are the former and one is
    the latter, so that no wrong answer comes before a right one. Unset: what there is."""
    dropout_percent: Annotated[Percent, InKey] = 10
    """Percent of the annotated documents that train without their feedback, so that the model also works
    without a prefix."""
    max_feedback_tokens: Annotated[int, InKey, Field(ge=8, le=4096)] = 256
    """Longer feedback is cut at this many tokens of the trained model's tokenizer."""
    loss_on_feedback: Annotated[LossOnFeedback | None, InKey] = None
    """Whether the prefix is in the loss. Unset: Include, but Mask for SFT and Rollout."""
    inference_feedback: Annotated[str | None, InKey, Field(min_length=1, max_length=2048)] = None
    """Critique that asks for the best at inference. Unset: the rubric's ideal critique."""


class Decontamination(StrEnum):
    """Whether documents that hold what an evaluation task asks are trained on."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Prepare(Model):
    """How documents become training sequences."""

    sequence_length: Annotated[int, InKey, Field(ge=32, le=1_048_576)] = 2048
    """Tokens in one packed sequence."""
    decontamination: Annotated[Decontamination, InKey] = Decontamination.ENABLED
    """Enabled: documents that have 13 words in a row in common with a question of the stage's tasks and its
    answer are left out of training and counted. Give a stage the tasks of later ones too, so that they are
    looked for in its documents."""
    workers: Annotated[int, NotInKey, Field(ge=1, le=256)] = 1
    """Processes that share the documents among them."""


class MomentsPrecision(StrEnum):
    """Number format that the optimizer's moments are kept in."""

    FP32 = "FP32"
    BF16 = "BF16"


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
    moments_precision: Annotated[MomentsPrecision, InKey] = MomentsPrecision.FP32
    """BF16 halves the memory of both moments, which are computed in float32 all the same. It needs a beta2 of
    at most 0.99: smaller steps of the second moment are lost in bfloat16."""


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

    def is_stable(self, step: int, steps: int) -> bool:
        """Whether after `step` of `steps` steps the rate has come to its peak and not begun to fall: a model
        from there is what a training of that length would be, but for its own decay."""
        if step < round(steps * self.warmup_percent / 100):
            return False
        if self.type is ScheduleType.WARMUP_STABLE_DECAY:
            return step <= steps - round(steps * self.decay_percent / 100)
        return self.type is ScheduleType.CONSTANT


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


class ActivationCheckpointing(StrEnum):
    """What of a forward pass is computed again for the gradients instead of kept."""

    AUTO = "Auto"
    NONE = "None"
    SELECTIVE = "Selective"
    FULL = "Full"


class Checkpoint(Model):
    """When training saves its state to resume from."""

    interval_seconds: Annotated[int, NotInKey, Field(ge=1, le=86_400)] = 600
    """Seconds between checkpoints; one more is saved on SIGTERM and at the end."""
    keep: Annotated[int, NotInKey, Field(ge=1, le=100)] = 2
    """Checkpoints that are kept, the newest."""


class Export(StrEnum):
    """Which of a training's models is its result."""

    LAST = "Last"
    BEST = "Best"


class Train(Model):
    """One training job."""

    max_tokens: Annotated[int, InKey, Field(ge=1, le=10**15)]
    """Tokens to train on, feedback included. With spec.comparison EqualFlops the reference arm's, else every
    arm's, scaled by its tokensPercent."""
    batch_tokens: Annotated[int, InKey, Field(ge=32, le=10**12)] = 524_288
    """Tokens in one optimizer step over all ranks."""
    optimizer: Annotated[Optimizer, InKey] = Optimizer()
    """AdamW's settings."""
    schedule: Annotated[Schedule, InKey] = Schedule()
    """Learning rate over the run."""
    precision: Annotated[Precision, InKey] = Precision.BF16
    """BF16: bfloat16 compute with float32 weights and optimizer state. FP32: float32 throughout."""
    eval_every_tokens: Annotated[int | None, InKey, Field(ge=1, le=10**15)] = None
    """Evaluate on the held-out documents and tasks each time this many tokens are trained. Unset: 20 times
    in a training."""
    export: Annotated[Export, InKey] = Export.LAST
    """Last: the model at the end of the training. Best: of those that were evaluated in it, the one with the
    least loss on held-out documents without prefix. The whole training is paid for either way."""
    num_nodes: Annotated[int, NotInKey, Field(ge=1, le=4096)] = 1
    """Pods of the training job."""
    num_proc_per_node: Annotated[Gpus, NotInKey] = 1
    """Ranks in one pod: its GPUs, or processes on a CPU. Auto: one for each GPU that the pod has, or 1."""
    micro_batch_sequences: Annotated[int | None, NotInKey, Field(ge=1, le=65_536)] = None
    """Sequences in one forward pass of one rank. Unset: chosen from model, memory and batchTokens."""
    parallelism: Annotated[Parallelism, NotInKey] = Parallelism.AUTO
    """Auto replicates a model that fits on a rank with its optimizer state and shards others (FSDP2)."""
    compile: Annotated[Compile, NotInKey] = Compile.AUTO
    """torch.compile. Auto: where it pays for its start-up."""
    activation_checkpointing: Annotated[ActivationCheckpointing, NotInKey] = ActivationCheckpointing.AUTO
    """Selective keeps what matrix products and attention gave, and computes the rest of a layer again; Full
    computes whole layers again. The trained weights are the same. Auto: the least with which a batch fits."""
    checkpoint: Annotated[Checkpoint, NotInKey] = Checkpoint()
    """When training saves its state."""

    def batch_sequences(self, sequence_length: int) -> int:
        """Sequences in one optimizer step."""
        return max(1, self.batch_tokens // sequence_length)

    def steps(self, sequence_length: int) -> int:
        """Optimizer steps that maxTokens allows, at least one."""
        return max(1, self.max_tokens // (self.batch_sequences(sequence_length) * sequence_length))


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


TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=128)]
"""Name of a task, group or tag of lm-evaluation-harness."""


class HarnessTask(Model):
    """A task, group or tag of lm-evaluation-harness."""

    name: Annotated[TaskName, InKey]
    """As the harness calls it, such as gsm8k or mmlu; unique among the harness's tasks."""
    uri: Annotated[DataUri | None, NotInKey] = None
    """Folder with the task's YAML and its data. Unset: a task that the harness brings along. Python in the
    folder is not run: a task names functions of lm_eval.tasks only."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret that uri is read with, as for a dataset."""


class Harness(Model):
    """Evaluation of the trained model by tasks of EleutherAI's lm-evaluation-harness."""

    tasks: Annotated[tuple[HarnessTask, ...], InKey, Field(min_length=1, max_length=32)]
    """What the model is asked, under each of evaluate.prefixes."""
    limit: Annotated[int | None, InKey, Field(ge=1, le=1_000_000)] = None
    """At most this many items of each task, from its start. Unset: all."""
    fewshot: Annotated[int | None, InKey, Field(ge=0, le=64)] = None
    """Solved examples before each question. Unset: as many as the task says."""
    samples: Annotated[int, InKey, Field(ge=1, le=64)] = 1
    """Answers to each item that is answered in words: its score is their mean. More than one are drawn at the
    task's temperature, or at 1 where it decodes greedily."""


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
    harness: Annotated[Harness | None, InKey] = None
    """Tasks of lm-evaluation-harness, which the trained model is asked at its end. Unset: none."""


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
    chat_template: Annotated[str | None, NotInKey, Field(min_length=1, max_length=128)] = None
    """Which of the tokenizer's named chat templates conversations are written in. Unset: the one called
    default, or the only one."""
    credentials_secret_ref: Annotated[SecretRef | None, NotInKey] = None
    """Secret that source, or config and tokenizer, are read with, as for a dataset."""


class SamplingFeedback(StrEnum):
    """Feedback under which a policy writes its samples."""

    BEST = "Best"
    MIX = "Mix"
    NONE = "None"


class RoundStart(StrEnum):
    """Which model a round's training starts from."""

    PREVIOUS = "Previous"
    START = "Start"


class Generation(Model):
    """How a policy answers prompts in one round."""

    samples_per_prompt: Annotated[int, InKey, Field(ge=1, le=64)] = 4
    """Answers to each prompt. They are asked for together, so that the server reads the prompt once."""
    prompts_per_round: Annotated[int | None, InKey, Field(ge=1, le=10_000_000)] = None
    """Prompts of one round, taken in one seeded order over all rounds, from the start again where it ends.
    Unset: all, in every round."""
    temperature: Annotated[Decimal, InKey] = "1"
    """0 is greedy decoding: all samples of a prompt are then the same."""
    top_p: Annotated[Decimal, InKey] = "1"
    """Nucleus sampling."""
    top_k: Annotated[int | None, InKey, Field(ge=1, le=1_000_000)] = None
    """Only so many of the most likely tokens are drawn from. Unset: from all."""
    max_tokens: Annotated[int, InKey, Field(ge=1, le=131_072)] = 1024
    """Most tokens of one answer."""
    sampling_feedback: Annotated[SamplingFeedback, InKey] = SamplingFeedback.BEST
    """Feedback under which the policy writes, if it was trained with any: the best, none, or Mix, where each
    prompt gets one of the levels, drawn anew in each round. Training then shows the real feedback."""


class Rollout(Generation):
    """Rounds of a model's own samples: written, verified or judged, and trained on with that feedback."""

    rounds: Annotated[int, NotInKey, Field(ge=1, le=16)] = 3
    """Rounds in the stage. More can be added to a run that has ended: only they are made."""
    replay_rounds: Annotated[int | None, InKey, Field(ge=0, le=15)] = None
    """Earlier rounds whose samples a round trains on again. Unset: with from Start all, else none."""
    verifier: Annotated[Verifier | None, InKey] = None
    """What says whether an answer is right. Unset: the judge alone decides about levels."""
    judge_sees: Annotated[JudgeSees, InKey] = JudgeSees.REFERENCE
    """What the judge is shown of an answer."""
    evaluation: Annotated[EvalSampling, InKey] = EvalSampling()
    """How the model before the first round, and that of each round, answer the held-out prompts
    (evaluate.holdoutDocuments), asked for the best, for nothing and for the worst. They are only asked where
    there is a verifier."""
    start: Annotated[RoundStart, InKey, Field(alias="from")] = RoundStart.PREVIOUS
    """Previous: a round's training starts from the model of the round before. Start: each starts from the
    model that the stage starts from."""

    def replayed(self, number: int) -> range:
        """The rounds whose samples the round `number`, which counts from 1, trains on, itself the last."""
        default = number if self.start is RoundStart.START else 0
        most = default if self.replay_rounds is None else self.replay_rounds
        return range(max(1, number - most), number + 1)
