"""Every metric that Prometheus gets: of the operator, of runs, and of steps. One row each.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for counters. Labels are
bounded: runs, stages, steps, arms and seeds that exist, tasks that a run names, and enums.

A step tells its figures with its progress (`figures.py`). A pod serves them with their own labels; the
operator, and `ixt run --metrics-port`, serve those of all steps with RUN and NODE before them.
"""

from enum import StrEnum
from typing import NamedTuple

from ixt_workloads.contract.settings import EvalPrefix


class Type(StrEnum):
    """What Prometheus calls the type of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Across(StrEnum):
    """How the figures of processes that share a step's work become one."""

    SUM = "Sum"
    MAX = "Max"
    MEAN = "Mean"


class Spending(StrEnum):
    """What time on accelerators, or on processors, was spent on."""

    ANNOTATING = "Annotating"
    GENERATING = "Generating"
    PREPARING = "Preparing"
    TRAINING = "Training"
    EVALUATING = "Evaluating"
    STARTING = "Starting"
    """From the machine's being taken to the first unit of work: images, weights, compilation, rendezvous."""
    WAITING = "Waiting"
    """For each other: ranks for the slowest, a server for those that ask it."""
    LOST = "Lost"
    """Attempts that failed, from their last checkpoint on."""

    @property
    def productive(self) -> bool:
        """Whether it brought the run further: the share of such time is the goodput."""
        return self not in (Spending.STARTING, Spending.WAITING, Spending.LOST)


class DocumentResult(StrEnum):
    """What came of asking the judge about a document."""

    OK = "Ok"
    BAD_JSON = "BadJson"
    """No JSON, cut short, or of another shape than the rubric's."""
    OUT_OF_RANGE = "OutOfRange"
    TRUNCATED_THINKING = "TruncatedThinking"
    """The reasoning took all tokens that an answer may have."""
    REPETITION = "Repetition"
    """Whitespace or one phrase without end."""
    REFUSED = "Refused"
    """The endpoint refused this document, or failed on it every time."""
    OTHER = "Other"


class PromptResult(StrEnum):
    """What came of having a policy answer a prompt."""

    ANSWERED = "Answered"
    TOO_LONG = "TooLong"
    """Prompt and rollout.maxTokens do not fit the policy's context."""
    TEMPLATE = "Template"
    """The chat template refuses it."""
    REFUSED = "Refused"
    """The server refused it, or failed on it every time."""


class SampleResult(StrEnum):
    """How a policy's answer ended."""

    COMPLETE = "Complete"
    CUT = "Cut"
    """By rollout.maxTokens."""
    EMPTY = "Empty"


class VerifierResult(StrEnum):
    """What a verifier said of an answer."""

    RIGHT = "Right"
    WRONG = "Wrong"
    NOT_APPLICABLE = "NotApplicable"
    """The verifier does not apply to the prompt."""
    RAISED = "Raised"
    TIMED_OUT = "TimedOut"
    """It took longer than verifier.timeoutSeconds."""
    NO_VERDICT = "NoVerdict"
    """It ended, said what is no verdict, or the reference is none that it understands."""


class Retry(StrEnum):
    """Why a request to a judge or policy was sent again."""

    THROTTLED = "Throttled"
    """The server asked for less: HTTP 429 or 503."""
    SERVER_ERROR = "ServerError"
    """Another error of the server, or an answer that is none."""
    CONNECTION = "Connection"
    """The server was lost, or did not answer in time."""
    INVALID = "Invalid"
    """The answer before was no valid feedback."""


class Refusal(StrEnum):
    """Why a figure of a pod is left out."""

    UNKNOWN_METRIC = "UnknownMetric"
    """A name that no row of this table has."""
    NO_NUMBER = "NoNumber"
    """Text, a list or nothing, where a number is expected."""
    UNKNOWN_LABELS = "UnknownLabels"
    """Values of labels that the metric's row does not have, or that are no short text."""
    NOT_FINITE = "NotFinite"
    """NaN or an infinity."""
    TOO_LARGE = "TooLarge"
    """Beyond 1e30, or a ratio above 1."""
    NEGATIVE = "Negative"
    """Below 0 where nothing can be."""
    NO_COUNT = "NoCount"
    """A bucket of a histogram that holds no whole number of values."""
    TOO_MANY = "TooMany"
    """More than the 256 series that are taken of a process."""
    BACKWARDS = "Backwards"
    """A counter that fell, or is gone: what was told before stays."""
    FUTURE = "Future"
    """A time more than five minutes ahead."""


class StepPart(StrEnum):
    """A part of the time of a training step."""

    DATA = "Data"
    FORWARD_BACKWARD = "ForwardBackward"
    EXCHANGE = "Exchange"
    """Between ranks; the wait for the slowest is part of it."""
    UPDATE = "Update"


UNITS = ("documents", "tokens", "lanes", "seeds", "prompts", "rounds")
"""What work is counted in. Another word that a pod tells is shown as `units`."""

TRUE = "True"
"""Name of the prefix that is a held-out document's own feedback."""

PREFIXES = (*EvalPrefix, TRUE)

TOKEN_KINDS = ("prompt", "cached", "reasoning", "feedback", "wasted")
"""Kinds of a judge's tokens. `cached` are part of `prompt`; `wasted` are those of rejected answers."""


class Metric(NamedTuple):
    """A metric as Prometheus shows it."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, without the last, which is infinite."""
    across: Across = Across.SUM
    fades: bool = False
    """A speed, which is 0 once the work that it is of stands still."""
    values: tuple[tuple[str, ...], ...] = ()
    """What each label of a step's metric may be; nothing for any short text."""
    signed: bool = False
    """A step may tell values below 0."""


RUN = ("namespace", "run")
NODE = (*RUN, "stage", "step", "kind", "arm", "seed")
"""`step` is the step's name in its stage, for example train/conditioned; arm and seed are empty where it has
none."""

G, C, H = Type.GAUGE, Type.COUNTER, Type.HISTOGRAM
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# --- The operator ---
BUILD = Metric("ixt_operator_build_info", G, "Version of the operator, as a label", ("version",))
LEADER = Metric("ixt_operator_leader", G, "1 on the replica that leads, else 0")
RECONCILES = Metric("ixt_operator_reconciles_total", C, "Looks at runs by how they ended", ("outcome",))
RECONCILE_SECONDS = Metric(
    "ixt_operator_reconcile_duration_seconds", H, "Duration of a look at a run", buckets=SECONDS
)
QUEUE_DEPTH = Metric("ixt_operator_queue_depth", G, "Runs that are due to be looked at")
QUEUE_OLDEST = Metric(
    "ixt_operator_queue_oldest_seconds", G, "For how long the run that waits longest has been due"
)
REQUESTS = Metric(
    "ixt_operator_api_requests_total", C, "Requests to the API server; code 0 is for no answer",
    ("verb", "resource", "code"),
)  # fmt: skip
REQUEST_SECONDS = Metric(
    "ixt_operator_api_request_duration_seconds", H, "Duration of requests to the API server",
    ("verb", "resource"), SECONDS,
)  # fmt: skip
WATCH_RESTARTS = Metric(
    "ixt_operator_watch_restarts_total", C, "Watches that were opened again after they broke", ("resource",)
)
LAST_LIST = Metric(
    "ixt_operator_last_list_timestamp_seconds", G, "When all objects were last listed without an error"
)
NAMESPACE_UNSERVED = Metric(
    "ixt_operator_namespace_unserved",
    G,
    "1 for a namespace whose objects cannot be listed or written",
    ("namespace",),
)
PODS_SILENT = Metric(
    "ixt_operator_silent_pods", G,
    "Running pods of steps that did not answer the last four times they were asked for progress",
)  # fmt: skip
FIGURES_REFUSED = Metric(
    "ixt_operator_figures_refused_total", C, "Figures of pods that were left out by why", ("reason",)
)

# --- Runs, from their status ---
RUNS = Metric("ixt_runs", G, "Runs by phase", ("namespace", "phase"))
RUN_INFO = Metric(
    "ixt_run_info", G, "What a run was given: its queue and runtime", (*RUN, "queue", "runtime")
)
RUN_PHASE = Metric("ixt_run_phase", G, "1 for the phase that a run is in", (*RUN, "phase"))
RUN_CONDITION = Metric(
    "ixt_run_condition", G, "1 for a condition that is true, 0 for one that is not", (*RUN, "type", "reason")
)
RUN_MESSAGE = Metric(
    "ixt_run_message_info", G, "What a run that has not finished last told of its state", (*RUN, "message")
)
RUN_PROGRESS = Metric("ixt_run_progress_ratio", G, "Progress of a run by cost, 0 to 1", RUN)
RUN_ETA = Metric("ixt_run_eta_seconds", G, "Seconds left in the step that runs, at its rate", RUN)
RUN_START = Metric("ixt_run_start_timestamp_seconds", G, "When a run began", RUN)
RUN_COMPLETION = Metric("ixt_run_completion_timestamp_seconds", G, "When a run completed or failed", RUN)
RUN_DEADLINE = Metric(
    "ixt_run_deadline_seconds", G, "Active seconds that activeDeadlineSeconds leaves a run", RUN
)
RUN_FLOPS = Metric("ixt_run_flops_total", C, "FLOPs that a run paid by purpose", (*RUN, "purpose"))
RUN_SAVED_FLOPS = Metric(
    "ixt_run_saved_flops_total", C, "FLOPs that a run did not pay, since artifacts were there by purpose",
    (*RUN, "purpose"),
)  # fmt: skip
RUN_CACHED = Metric("ixt_run_cached_steps", G, "Steps of a run whose artifacts were there already", RUN)
RUN_GPU_SECONDS = Metric(
    "ixt_run_gpu_seconds_total", C, "Seconds that a run held GPUs, times their number, by purpose",
    (*RUN, "purpose"),
)  # fmt: skip
RUN_CPU_SECONDS = Metric(
    "ixt_run_cpu_seconds_total", C,
    "Seconds that a run's pods without GPUs held processors, times their number, by purpose",
    (*RUN, "purpose"),
)  # fmt: skip
RUN_UNSAVED_GPU_SECONDS = Metric(
    "ixt_run_unsaved_gpu_seconds", G,
    "Seconds of work since the last checkpoint, times GPUs, by purpose: counted once saved, or as Lost",
    (*RUN, "purpose"),
)  # fmt: skip
RUN_UNSAVED_CPU_SECONDS = Metric(
    "ixt_run_unsaved_cpu_seconds", G, "The same of pods without GPUs, times their processors",
    (*RUN, "purpose"),
)  # fmt: skip
RUN_GOODPUT = Metric(
    "ixt_run_goodput_ratio", G, "Productive share of the time on GPUs, or on processors without any", RUN
)

STAGE_ROUND = Metric(
    "ixt_stage_round", G, "Newest round of a Rollout stage that has begun; 0 before the first",
    (*RUN, "stage"),
)  # fmt: skip
STAGE_ROUNDS = Metric("ixt_stage_rounds", G, "Rounds of a Rollout stage", (*RUN, "stage"))
STAGE_ETA = Metric(
    "ixt_stage_eta_seconds", G,
    "Seconds left in the rounds of a Rollout stage, if each takes as long as the last one",
    (*RUN, "stage"),
)  # fmt: skip

RUN_GAIN = Metric(
    "ixt_run_gain", G,
    "What an arm gains over the baseline at equal FLOPs, annotation included, once the report is there: "
    "in accuracy (0 to 1) or nats a token (LogProbability)",
    (*RUN, "stage", "arm", "baseline", "measure"),
)  # fmt: skip

# --- Steps, from the status and what the operator sees ---
STEP_STATE = Metric("ixt_step_state", G, "1 for the state that a step is in", (*NODE[:-1], "state"))
STEP_DONE = Metric("ixt_step_work_done", G, "Units of work done", (*NODE[:-1], "unit"))
STEP_EXPECTED = Metric("ixt_step_work_expected", G, "Units of work in all", (*NODE[:-1], "unit"))
STEP_RATE = Metric("ixt_step_work_per_second", G, "Units of work a second", (*NODE[:-1], "unit"))
STEP_ETA = Metric(
    "ixt_step_eta_seconds", G, "Seconds until a step, or its part of a round, is done, at its rate", NODE[:-1]
)
STEP_DEADLINE = Metric(
    "ixt_step_deadline_seconds", G, "Seconds that annotate.deadlineSeconds leaves a step", NODE[:-1]
)
STEP_GATE = Metric(
    "ixt_step_gate_ratio", G,
    "Largest share that a gate of an annotation lets through: Invalid, Overlap; of answers also "
    "Contradiction, Quoting",
    (*NODE[:-1], "gate"),
)  # fmt: skip
STEP_FAILED = Metric(
    "ixt_step_failed_attempts", G, "Failed attempts by class of fault", (*NODE[:-1], "fault")
)
SERVER_REPLICAS = Metric(
    "ixt_server_replicas", G, "Replicas of a server by state", (*RUN, "stage", "server", "state")
)
QUEUE_POSITION = Metric(
    "ixt_step_queue_position", G, "Jobs before this one in its Kueue queue, where Kueue tells it", NODE
)

# --- Annotation ---
DOCUMENTS = Metric(
    "ixt_annotation_documents_total", C, "Documents judged by result", ("result",),
    values=(tuple(DocumentResult),),
)  # fmt: skip
DOCUMENTS_CUT = Metric(
    "ixt_annotation_cut_documents_total", C, "Documents that were cut to fit the judge's context"
)
TOKENS = Metric(
    "ixt_annotation_tokens_total", C,
    "Tokens of the judge by type; those cached are part of the prompt's", ("type",),
    values=(TOKEN_KINDS,),
)  # fmt: skip
SCORES = Metric(
    "ixt_annotation_score", H, "Raw scores of documents",
    buckets=(0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 100.0), signed=True,
)  # fmt: skip
REQUESTS_OPEN = Metric(
    "ixt_annotation_requests", G,
    "Requests to the judge, of kind Generate to the policy: open at the clients, running and waiting there",
    ("state",), values=(("Open", "Running", "Waiting"),),
)  # fmt: skip
RETRIES = Metric(
    "ixt_annotation_retries_total", C, "Requests that were sent again by why", ("reason",),
    values=(tuple(Retry),),
)  # fmt: skip
OVERLAP = Metric(
    "ixt_annotation_overlap_ratio", G, "Share of the critiques' 8-grams that stand in their documents",
    across=Across.MEAN,
)  # fmt: skip

# --- Rounds: a policy's answers, and what the verifier says of them ---
PROMPTS = Metric(
    "ixt_generation_prompts_total", C, "Prompts that a policy was to answer by result", ("result",),
    values=(tuple(PromptResult),),
)  # fmt: skip
SAMPLES = Metric(
    "ixt_generation_samples_total", C, "Answers of a policy by how they ended", ("result",),
    values=(tuple(SampleResult),),
)  # fmt: skip
ALIKE = Metric("ixt_generation_alike_prompts_total", C, "Prompts of which all answers are the same")
GENERATED_TOKENS = Metric(
    "ixt_generation_tokens_total", C, "Tokens of a policy by type; those cached are part of the prompts'",
    ("type",), values=(("prompt", "cached", "completion"),),
)  # fmt: skip
VERIFIED = Metric(
    "ixt_verification_answers_total", C, "Answers by what the verifier said", ("result",),
    values=(tuple(VerifierResult),),
)  # fmt: skip
RIGHT = Metric(
    "ixt_verification_right_ratio", G, "Share of the answers of the newest round that are right",
    across=Across.MEAN,
)  # fmt: skip
CONTRADICTED = Metric(
    "ixt_verification_contradiction_ratio", G,
    "Share of the answers of the newest round on which the judge contradicts the verifier",
    across=Across.MEAN,
)  # fmt: skip
QUOTED = Metric(
    "ixt_verification_quoting_ratio", G,
    "Share of the critiques of the newest round that quote the reference answer", across=Across.MEAN,
)  # fmt: skip

# --- Preparation ---
PREPARED_TOKENS = Metric(
    "ixt_preparation_tokens_total", C, "Tokens of packed sequences by type: Document, Prefix, Padding",
    ("type",), values=(("Document", "Prefix", "Padding"),),
)  # fmt: skip
PREPARED_DOCUMENTS = Metric(
    "ixt_preparation_documents_total", C, "Documents by level; the level is empty without feedback",
    ("level",), values=(("", *map(str, range(1, 11))),),
)  # fmt: skip
CONVERSATIONS_CUT = Metric(
    "ixt_preparation_cut_conversations_total", C, "Conversations that were cut to the sequence's length"
)

# --- Training ---
LOSS = Metric("ixt_training_loss", G, "Mean loss of the last step, in nats a token", signed=True)
ROUTER_LOSS = Metric(
    "ixt_training_router_loss", G, "What is added to the loss for experts used unevenly", signed=True
)
LEARNING_RATE = Metric("ixt_training_learning_rate", G, "Learning rate of the last step")
GRADIENT_NORM = Metric("ixt_training_gradient_norm", G, "Norm of the gradient before it is clipped")
TRAINED_STEPS = Metric("ixt_training_steps", G, "Optimizer steps taken; a resume goes back to the checkpoint")
RESUMED_STEPS = Metric(
    "ixt_training_resumed_steps", G, "Optimizer steps that an earlier attempt had saved when this one began"
)
TRAINED_TOKENS = Metric("ixt_training_tokens", G, "Tokens read; a resume goes back to the checkpoint")
TRAINED_FLOPS = Metric("ixt_training_flops", G, "FLOPs of the tokens read")
TOTAL_FLOPS = Metric(
    "ixt_training_total_flops", G, "FLOPs of the tokens read, of the stages before and of their annotation"
)
TOKEN_RATE = Metric("ixt_training_tokens_per_second", G, "Tokens a second of all ranks", fades=True)
MFU = Metric("ixt_training_mfu_ratio", G, "Share of the devices' peak FLOP/s that training uses", fades=True)
STEP_SECONDS = Metric(
    "ixt_training_step_seconds", G,
    "Seconds of the last step by part: Data, ForwardBackward, Exchange; Update is that of the step before",
    ("part",), values=(tuple(StepPart),),
)  # fmt: skip
RANK_SECONDS = Metric(
    "ixt_training_rank_step_seconds", G, "Seconds that ranks computed in the last step, without waiting",
    ("rank",), values=(("Median", "Slowest"),),
)  # fmt: skip
SLOWEST_RANK = Metric("ixt_training_slowest_rank", G, "Number of the rank that was slowest in the last step")
EVALUATION_SECONDS = Metric("ixt_training_evaluation_seconds", G, "Seconds of the last evaluation")
CHECKPOINT_TIME = Metric(
    "ixt_training_checkpoint_timestamp_seconds", G, "When the attempt last saved a checkpoint, or began"
)
CHECKPOINT_INTERVAL = Metric(
    "ixt_training_checkpoint_interval_seconds", G, "Seconds between checkpoints as set"
)
CHECKPOINT_SECONDS = Metric("ixt_training_checkpoint_duration_seconds", G, "Seconds of the last checkpoint")
CHECKPOINT_BYTES = Metric("ixt_training_checkpoint_bytes", G, "Size of the last checkpoint")
MEMORY = Metric(
    "ixt_training_memory_bytes", G, "Memory of the rank that has most by type: Allocated, Reserved, Resident",
    ("type",), values=(("Allocated", "Reserved", "Resident"),),
)  # fmt: skip

# --- Evaluation, in training and after it ---
SCORE = Metric(
    "ixt_evaluation_score", G, "Score by prefix and task, 0 to 1", ("prefix", "task"), values=(PREFIXES, ())
)
HELD_OUT_LOSS = Metric(
    "ixt_evaluation_loss", G, "Loss on held-out documents by prefix, in nats a token", ("prefix",),
    values=(PREFIXES,), signed=True,
)  # fmt: skip

STEP_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        DOCUMENTS, DOCUMENTS_CUT, TOKENS, SCORES, REQUESTS_OPEN, RETRIES, OVERLAP,
        PROMPTS, SAMPLES, ALIKE, GENERATED_TOKENS, VERIFIED, RIGHT, CONTRADICTED, QUOTED,
        PREPARED_TOKENS, PREPARED_DOCUMENTS, CONVERSATIONS_CUT,
        LOSS, ROUTER_LOSS, LEARNING_RATE, GRADIENT_NORM, TRAINED_STEPS, RESUMED_STEPS, TRAINED_TOKENS,
        TRAINED_FLOPS, TOTAL_FLOPS,
        TOKEN_RATE, MFU, STEP_SECONDS, RANK_SECONDS, SLOWEST_RANK, EVALUATION_SECONDS, CHECKPOINT_TIME,
        CHECKPOINT_INTERVAL, CHECKPOINT_SECONDS, CHECKPOINT_BYTES, MEMORY,
        SCORE, HELD_OUT_LOSS,
    )
}  # fmt: skip
"""Metrics that steps tell with their progress; their labels are the step's own."""

METRICS: tuple[Metric, ...] = tuple(value for value in globals().values() if isinstance(value, Metric))
