"""Alerts: what somebody should look at, when, and how to tell a page from a note.

An alert waits long enough that no restart of a pod,
of the operator or of Prometheus raises it. Thresholds come
from a function,
so that one source serves a file for any Prometheus and a template of the chart. Each alert has a
page in docs/runbooks.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ixt_dashboards.queries import STEP, buckets, by, is_one, rate, series
from ixt_dashboards.recordings import JUDGE_TOKENS, RUN_DEVICES
from ixt_operator.api.status import Phase, Reason, StepState
from ixt_workloads.contract import metrics as m
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.metrics import NODE, RUN

THRESHOLDS: dict[str, float | str] = {
    "stalledFor": "30m",
    "noProgressWithin": "2h",
    "judgeThroughputShare": 0.3,
    "invalidShareOfGate": 0.5,
    "scoreSpread": 0.85,
    "uselessSampleShare": 0.5,
    "lossSpike": 1.3,
    "slowRank": 1.3,
    "lostShare": 0.2,
    "goodput": 0.5,
    "checkpointIntervals": 3,
    "unscheduledFor": "1h",
    "queueSeconds": 300,
    "reconcileErrorShare": 0.1,
}
"""The defaults. The chart's values say what each is (values.yaml)."""

Threshold = Callable[[str], str]
"""From the name of a threshold to what stands in the rule."""


def default(name: str) -> str:
    """A threshold as it is by default."""
    return str(THRESHOLDS[name])


class Alert(NamedTuple):
    """An alert as Prometheus has it."""

    name: str
    severity: str
    """critical: devices or days are being lost now. warning: look today. info: good to know."""
    wait: str
    """For how long it must be so."""
    expression: str
    summary: str
    """What is so, where: it names the run and its stage."""
    first: str
    """What to do first."""


RUN_NAME = "{{ $labels.namespace }}/{{ $labels.run }}"
STAGE_NAME = f"{RUN_NAME}, stage {{{{ $labels.stage }}}}"
STEP_NAME = f"{STAGE_NAME}, {{{{ $labels.step }}}}"
LANE_NAME = f"{STEP_NAME}, seed {{{{ $labels.seed }}}}"
SHARE = "{{ $value | humanizePercentage }}"
TIME = "{{ $value | humanizeDuration }}"
NUMBER = '{{ $value | printf "%.2f" }}'
STATUS = "kubectl ixt status -n {{ $labels.namespace }} {{ $labels.run }}"

OPERATOR = ("namespace", "job")
"""What tells operators of one Prometheus apart."""
OF_STAGE = (*RUN, "stage")
TOLD = 'run!=""'
"""Figures of steps that the operator tells; pods tell their own without it."""


def alerts(threshold: Threshold = default) -> list[Alert]:
    """All alerts."""
    return [*alerts_of_runs(threshold), *_of_operator(threshold)]


def alerts_of_runs(threshold: Threshold = default) -> list[Alert]:
    """Those that need no operator, which a run on one machine has not."""
    return [
        *_of_runs(threshold),
        *_of_annotation(threshold),
        *_of_rounds(threshold),
        *_of_training(threshold),
    ]


def _on(labels: Iterable[str]) -> str:
    return f"on ({', '.join(labels)})"


def _is(label: str, *values: str) -> str:
    return f'{label}="{values[0]}"' if len(values) == 1 else f'{label}=~"{"|".join(values)}"'


def _running() -> str:
    return is_one(RUN, m.RUN_PHASE, _is("phase", Phase.RUNNING))


def _waits(*reasons: Reason) -> str:
    return is_one(RUN, m.RUN_CONDITION, _is("type", "Progressing"), _is("reason", *reasons))


def _older(than: str) -> str:
    """Runs that began so many seconds ago."""
    return f"time() - {by(RUN, series(m.RUN_START))} > {than}"


def _of_runs(threshold: Threshold) -> Iterator[Alert]:
    steps = is_one(STEP, m.STEP_STATE, _is("state", StepState.RUNNING), 'kind!~"Inventory|Report"')
    yield Alert(
        "IXTRunStalled", "critical", threshold("stalledFor"),
        f"({steps}) unless {_on(STEP)} ({by(STEP, series(m.STEP_RATE))} > 0)",
        f"{STEP_NAME}: runs, but does no work",
        f"{STATUS} says what the step does; kubectl ixt logs shows whether it still starts or hangs.",
    )  # fmt: skip
    yield _no_progress(threshold("noProgressWithin"))
    yield Alert(
        "IXTRunFailed", "warning", "1m",
        f"({is_one(RUN, m.RUN_PHASE, _is('phase', Phase.FAILED))}) and {_on(RUN)} "
        f"(time() - {by(RUN, series(m.RUN_COMPLETION))} < 3600)",
        f"{RUN_NAME}: failed within the last hour",
        f"{STATUS} says what failed where; kubectl ixt retry starts it again where it failed.",
    )  # fmt: skip
    yield Alert(
        "IXTRunUnscheduled", "warning", threshold("unscheduledFor"),
        _waits(Reason.STEPS_WAITING),
        f"{RUN_NAME}: its pods are not scheduled, or not admitted by their queue",
        f"{STATUS} says what the pods wait for: room, quota, an image, a volume.",
    )  # fmt: skip
    lost, held = (
        by(RUN, f"sum_over_time({series(RUN_DEVICES.name, *more)}[6h])", "sum")
        for more in ((_is("purpose", m.Spending.LOST),), ())
    )
    yield Alert(
        "IXTRetriesBurnBudget", "warning", "15m",
        f"{lost} / {held} > {threshold('lostShare')}",
        f"{RUN_NAME}: {SHARE} of the last six hours' time on devices was lost with failed attempts",
        f"{STATUS} has the failures by class; suspend the run if they are of the same cause.",
    )  # fmt: skip
    yield Alert(
        "IXTGoodputLow", "info", "1h",
        f"({by(RUN, series(m.RUN_GOODPUT))} < {threshold('goodput')}) and {_on(RUN)} ({_running()}) "
        f"and {_on(RUN)} ({_older('7200')})",
        f"{RUN_NAME}: only {SHARE} of its time on devices was productive",
        "The dashboard ixt / Run says in its row Cost what the rest was spent on.",
    )  # fmt: skip


def _no_progress(within: str) -> Alert:
    # The furthest that a step has come: an attempt that repeats what another did before brings it no further.
    furthest, before = (
        by(STEP, f"max_over_time({series(m.STEP_DONE, window=within, offset=offset)})")
        for offset in ("", within)
    )
    forward = f"{furthest} > {before} or ({furthest} > 0 unless {_on(STEP)} {before})"
    excused = _waits(Reason.STEPS_WAITING, Reason.CLAIM_HELD)
    old = f"({_running()}) and {_on(RUN)} ({by(RUN, series(m.RUN_START, offset=within))})"
    return Alert(
        "IXTRunNoProgress", "critical", "15m",
        f"({old}) unless {_on(RUN)} ({excused}) unless {_on(RUN)} ({forward})",
        f"{RUN_NAME}: no step has come further in {within}",
        f"{STATUS} shows attempts and faults: it starts over and over, or waits for something that does not "
        f"come.",
    )  # fmt: skip


def _of_annotation(threshold: Threshold) -> Iterator[Alert]:
    annotating = _is("kind", "Annotate")
    yield Alert(
        "IXTAnnotationMissesDeadline", "warning", "15m",
        f"{by(STEP, series(m.STEP_ETA, annotating))} > {by(STEP, series(m.STEP_DEADLINE, annotating))}",
        f"{STEP_NAME}: needs {TIME} more, longer than deadlineSeconds leaves",
        "If requests to the judge wait, raise judge.engine.maxReplicas, which takes effect at once.",
    )  # fmt: skip
    done, expected = (
        by(OF_STAGE, by(STEP, series(each, annotating)), "sum") for each in (m.STEP_DONE, m.STEP_EXPECTED)
    )
    best = f"max_over_time({series(JUDGE_TOKENS.name)}[6h])"
    yield Alert(
        "IXTJudgeThroughputCollapsed", "warning", "20m",
        f"{JUDGE_TOKENS.name} < {threshold('judgeThroughputShare')} * {best} "
        f"and {_on(OF_STAGE)} ({done} / {expected} < 0.95) "
        f"and {_on(OF_STAGE)} "
        f"({is_one(OF_STAGE, m.STEP_STATE, annotating, _is('state', StepState.RUNNING))})",
        f"{STAGE_NAME}: the judge generates {{{{ $value | humanize }}}} tokens a second, far below its best "
        f"of six hours",
        "The dashboard ixt / Judge shows whether replicas are gone, the KV cache is full, or clients ask "
        "less.",
    )  # fmt: skip
    wrong, judged = (
        by(OF_STAGE, by((*STEP, "result"), rate(m.DOCUMENTS, TOLD, *more, window="30m")), "sum")
        for more in ((f'result!="{m.DocumentResult.OK}"',), ())
    )
    gate = by(OF_STAGE, series(m.STEP_GATE, _is("gate", "Invalid")))
    yield Alert(
        "IXTInvalidFeedback", "warning", "10m",
        f"{wrong} / ({judged} > 50 / 1800) > {threshold('invalidShareOfGate')} * {gate}",
        f"{STAGE_NAME}: {SHARE} of the documents get no valid feedback, near the gate at which the run fails",
        "The dashboard ixt / Run says in its row Annotation why they are invalid.",
    )  # fmt: skip
    counts = by((*OF_STAGE, "le"), _score_counts(), "sum")
    spread = f"histogram_quantile(0.9, {counts}) - histogram_quantile(0.1, {counts})"
    many = by(OF_STAGE, _score_counts('le="+Inf"'), "sum")
    yield Alert(
        "IXTScoresCollapsed", "warning", "30m",
        f"({spread} < {threshold('scoreSpread')}) and {_on(OF_STAGE)} ({many} > 200)",
        f"{STAGE_NAME}: eight of ten documents score within {NUMBER} of each other",
        "The dashboard ixt / Run shows the histogram; scores without spread teach nothing: look at rubric "
        "and answers.",
    )  # fmt: skip


def _of_rounds(threshold: Threshold) -> Iterator[Alert]:
    useless, written = (
        by(OF_STAGE, by((*STEP, "result"), rate(m.SAMPLES, TOLD, *more, window="30m")), "sum")
        for more in ((f'result!="{m.SampleResult.COMPLETE}"',), ())
    )
    yield Alert(
        "IXTSamplesCut", "warning", "10m",
        f"{useless} / ({written} > 50 / 1800) > {threshold('uselessSampleShare')}",
        f"{STAGE_NAME}: {SHARE} of the policy's answers are cut at rollout.maxTokens, or empty",
        "The dashboard ixt / Run shows in its row Rounds which of the two, and since which round.",
    )  # fmt: skip


def _score_counts(*matchers: str) -> str:
    return f"increase({series(buckets(m.SCORES), TOLD, *matchers, window='1h')})"


def _of_training(threshold: Threshold) -> Iterator[Alert]:
    diverged = _is("fault", Fault.DIVERGED)
    failed, before = (by(STEP, series(m.STEP_FAILED, diverged, offset=offset)) for offset in ("", "1h"))
    yield Alert(
        "IXTLossNotFinite", "critical", "0m",
        f"{failed} > ({before} or {failed} * 0)",
        f"{STEP_NAME}: an attempt of the last hour diverged: its loss was not finite",
        "Retries start at the last checkpoint; if it happens again, lower the learning rate or look at the "
        "data.",
    )  # fmt: skip
    loss, usual = (
        by(NODE, f"{function}({of}{series(m.LOSS, TOLD, window=window)})")
        for function, of, window in (("avg_over_time", "", "5m"), ("quantile_over_time", "0.5, ", "2h"))
    )
    yield Alert(
        "IXTLossSpike", "warning", "5m",
        f"{loss} > {threshold('lossSpike')} * {usual}",
        f"{LANE_NAME}: its loss is {NUMBER}, far above that of the last two hours",
        "The dashboard ixt / Run shows whether it comes down again and what the gradient's norm did before.",
    )  # fmt: skip
    slowest, median = (
        by(NODE, series(m.RANK_SECONDS, TOLD, _is("rank", rank))) for rank in ("Slowest", "Median")
    )
    yield Alert(
        "IXTSlowRank", "warning", "30m",
        f"({slowest} / {median} > {threshold('slowRank')}) and {_trains()}",
        f"{LANE_NAME}: its slowest rank takes {NUMBER} times as long as the median",
        "The dashboard ixt / Run says which rank it is; if it is always the same, drain its node.",
    )  # fmt: skip
    saved, interval = (by(NODE, series(each, TOLD)) for each in (m.CHECKPOINT_TIME, m.CHECKPOINT_INTERVAL))
    yield Alert(
        "IXTCheckpointOld", "warning", "5m",
        f"(time() - {saved} > {threshold('checkpointIntervals')} * {interval}) and {_trains()}",
        f"{LANE_NAME}: its last checkpoint is {TIME} old",
        "kubectl ixt logs shows whether saving fails: storage that is full, slow or refuses.",
    )  # fmt: skip


def _trains() -> str:
    """Lanes that train: figures of those that are done stay until their run has finished."""
    return f"{_on(NODE)} ({by(NODE, series(m.TOKEN_RATE, TOLD))} > 0)"


def _of_operator(threshold: Threshold) -> Iterator[Alert]:
    yield Alert(
        "IXTNoLeader", "critical", "5m",
        f"{by(OPERATOR, series(m.LEADER))} < 1 or absent({series(m.LEADER)})",
        "No operator leads: runs go on, but nothing new starts",
        "kubectl get pods -A -l app.kubernetes.io/name=ixt-operator, and their logs.",
    )  # fmt: skip
    yield Alert(
        "IXTQueueStuck", "critical", "5m",
        f"{by(OPERATOR, series(m.QUEUE_OLDEST))} > {threshold('queueSeconds')}",
        f"A run has been due for {TIME} and is not looked at",
        "The dashboard ixt / Operator shows whether looks fail, take long, or the API server does not "
        "answer.",
    )  # fmt: skip
    errors, looks = (
        by(OPERATOR, rate(m.RECONCILES, *more, window="10m"), "sum")
        for more in ((_is("outcome", "error"),), ())
    )
    yield Alert(
        "IXTReconcileErrors", "warning", "15m",
        f"{errors} / {looks} > {threshold('reconcileErrorShare')}",
        f"{SHARE} of the operator's looks at runs end in an error",
        "The operator's log names run and error; the dashboard ixt / Operator has the API server's codes.",
    )  # fmt: skip
    yield Alert(
        "IXTNamespaceUnserved", "warning", "10m",
        f"{by(['namespace'], series(m.NAMESPACE_UNSERVED))} == 1",
        "Namespace {{ $labels.namespace }} cannot be served: its runs stand still",
        "The operator's log says what is refused; helm upgrade with the namespace in its values grants the "
        "rights.",
    )  # fmt: skip
    refused = by(OPERATOR, f"increase({series(m.FIGURES_REFUSED, window='15m')})", "sum")
    yield Alert(
        "IXTFiguresMissing", "warning", "15m",
        f"{by(OPERATOR, series(m.PODS_SILENT))} > 0 or {refused} > 0",
        "Figures of steps are missing: pods do not answer, or tell what cannot be",
        "The dashboard ixt / Operator says which of the two; network policies and busy pods keep them from "
        "answering.",
    )  # fmt: skip
