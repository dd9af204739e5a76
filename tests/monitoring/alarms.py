"""What each alert makes of series: when it fires, with which summary, and when it does not."""

from dataclasses import dataclass, field

RUN = 'namespace="team-a", run="r"'
TRAIN = f'{RUN}, stage="pretrain", step="train/conditioned", kind="Train", arm="conditioned"'
LANE, DONE_LANE = (f'{TRAIN}, seed="{seed}"' for seed in (1, 2))
ANNOTATE = f'{RUN}, stage="pretrain", step="annotate/0-15", kind="Annotate", arm=""'
JUDGED = f'{ANNOTATE}, seed=""'
ANSWERED = f'{RUN}, stage="pretrain", step="generate/c", kind="Generate", arm="c", seed="0"'
REPLICAS = [f'namespace="ixt-system", job="ixt", pod="{pod}"' for pod in ("a", "b")]

IN_RUN = {"namespace": "team-a", "run": "r"}
IN_STAGE = {**IN_RUN, "stage": "pretrain"}
IN_TRAIN = {**IN_STAGE, "step": "train/conditioned", "kind": "Train", "arm": "conditioned"}
IN_LANE = {**IN_TRAIN, "seed": "1"}
IN_ANNOTATE = {**IN_STAGE, "step": "annotate/0-15", "kind": "Annotate"}
IN_OPERATOR = {"namespace": "ixt-system", "job": "ixt"}


def levels(*parts: tuple[float, int]) -> str:
    """A gauge, in promtool's notation: values, and for how many minutes each."""
    return " ".join(f"{value}+0x{minutes - 1}" for value, minutes in parts)


def counts(*parts: tuple[float, int]) -> str:
    """A counter: how much it grows in a minute, and for how many minutes."""
    text, value = [], 0.0
    for growth, minutes in parts:
        text.append(f"{value}+{growth}x{minutes - 1}")
        value += growth * minutes
    return " ".join(text)


@dataclass(frozen=True)
class Alarm:
    """Series by selector, and at which minutes the alert fires and is silent."""

    alert: str
    series: dict[str, str]
    fires: int
    """Minute at which it fires."""
    silent: tuple[int, ...]
    """Minutes at which it does not: before it is so for long enough, and when it is over."""
    labels: dict[str, str] = field(default_factory=dict)
    summary: str = ""


TRAINING = {
    f"ixt_training_tokens_per_second{{{LANE}}}": levels((1000, 900)),
    f"ixt_training_tokens_per_second{{{DONE_LANE}}}": levels((0, 900)),
}
RUNNING = {f'ixt_run_phase{{{RUN}, phase="Running"}}': levels((1, 900))}
BEGUN = {f"ixt_run_start_timestamp_seconds{{{RUN}}}": levels((0, 900))}
TRAINS = {f'ixt_step_state{{{TRAIN}, state="Running"}}': levels((1, 900))}
ANNOTATES = {f'ixt_step_state{{{ANNOTATE}, state="Running"}}': levels((1, 900))}


def condition(reason: str, *parts: tuple[float, int]) -> dict[str, str]:
    return {f'ixt_run_condition{{{RUN}, type="Progressing", reason="{reason}"}}': levels(*parts)}


def of_replicas(metric: str, *values: str) -> dict[str, str]:
    return {f"{metric}{{{replica}}}": each for replica, each in zip(REPLICAS, values, strict=True)}


def score_buckets(*growths: str) -> dict[str, str]:
    bounds = ("1.0", "2.0", "3.0", "4.0", "5.0", "+Inf")
    return {
        f'ixt_annotation_score_bucket{{{JUDGED}, le="{bound}"}}': growth
        for bound, growth in zip(bounds, growths, strict=True)
    }


ALARMS = (
    Alarm(
        "IXTRunStalled",
        {**TRAINS, f'ixt_step_work_per_second{{{TRAIN}, unit="tokens"}}': levels((5, 10), (0, 60), (5, 60))},
        fires=45, silent=(5, 35, 75), labels={"severity": "critical", **IN_TRAIN},
        summary="team-a/r, stage pretrain, train/conditioned: runs, but does no work",
    ),
    Alarm(
        # A process that restarts tells no rate for a while.
        "IXTRunStalled",
        {**TRAINS, f'ixt_step_work_per_second{{{TRAIN}, unit="tokens"}}': f"{levels((5, 10))} _x59 "
        f"{levels((5, 60))}"},
        fires=50, silent=(35, 75), labels={"severity": "critical", **IN_TRAIN},
        summary="team-a/r, stage pretrain, train/conditioned: runs, but does no work",
    ),
    Alarm(
        "IXTRunNoProgress",
        {**RUNNING, **BEGUN, f'ixt_step_work_done{{{TRAIN}, unit="tokens"}}':
            f"0+2x50 {levels((100, 340))} 101+1x200"},
        fires=200, silent=(30, 100, 180, 410), labels={"severity": "critical", **IN_RUN},
        summary="team-a/r: no step has come further in 2h",
    ),
    Alarm(
        # It starts over and over from the same checkpoint.
        "IXTRunNoProgress",
        {**RUNNING, **BEGUN, f'ixt_step_work_done{{{TRAIN}, unit="tokens"}}':
            "0+2x50 " + " ".join(["50+2x25"] * 13) + " 101+1x200"},
        fires=220, silent=(30, 100, 180, 420), labels={"severity": "critical", **IN_RUN},
        summary="team-a/r: no step has come further in 2h",
    ),
    Alarm(
        "IXTRunNoProgress",
        {
            **RUNNING, **BEGUN, **condition("ClaimHeld", (1, 300), (0, 600)),
            f'ixt_step_work_done{{{TRAIN}, unit="tokens"}}': levels((100, 900)),
        },
        fires=320, silent=(290,), labels={"severity": "critical", **IN_RUN},
        summary="team-a/r: no step has come further in 2h",
    ),
    Alarm(
        "IXTRunFailed",
        {
            f'ixt_run_phase{{{RUN}, phase="Failed"}}': f"_x30 {levels((1, 300))}",
            f"ixt_run_completion_timestamp_seconds{{{RUN}}}": f"_x30 {levels((1800, 300))}",
        },
        fires=40, silent=(20, 100), labels={"severity": "warning", **IN_RUN},
        summary="team-a/r: failed within the last hour",
    ),
    Alarm(
        "IXTRunUnscheduled", condition("StepsWaiting", (0, 10), (1, 80), (0, 60)),
        fires=80, silent=(5, 60, 95), labels={"severity": "warning", **IN_RUN},
        summary="team-a/r: its pods are not scheduled, or not admitted by their queue",
    ),
    Alarm(
        "IXTRetriesBurnBudget",
        {
            f'ixt_run_gpu_seconds_total{{{RUN}, purpose="Training"}}': counts((480, 120), (0, 60), (480,
            600)),
            f'ixt_run_gpu_seconds_total{{{RUN}, purpose="Lost"}}': counts((0, 120), (480, 60), (0, 600)),
        },
        fires=180, silent=(100, 130, 700), labels={"severity": "warning", **IN_RUN},
        summary="team-a/r: 32.68% of the last six hours' time on devices was lost with failed attempts",
    ),
    Alarm(
        "IXTGoodputLow",
        {**RUNNING, **BEGUN, f"ixt_run_goodput_ratio{{{RUN}}}": levels((0.4, 300), (0.8, 300))},
        fires=190, silent=(100, 170, 310), labels={"severity": "info", **IN_RUN},
        summary="team-a/r: only 40% of its time on devices was productive",
    ),
    Alarm(
        "IXTAnnotationMissesDeadline",
        {
            f"ixt_step_eta_seconds{{{ANNOTATE}}}": levels((600, 10), (7200, 40), (600, 60)),
            f"ixt_step_deadline_seconds{{{ANNOTATE}}}": levels((3600, 120)),
        },
        fires=30, silent=(5, 20, 55), labels={"severity": "warning", **IN_ANNOTATE},
        summary="team-a/r, stage pretrain, annotate/0-15: needs 2h 0m 0s more, longer than deadlineSeconds "
        "leaves",
    ),
    Alarm(
        "IXTJudgeThroughputCollapsed",
        {
            **ANNOTATES,
            f'ixt_step_work_done{{{ANNOTATE}, unit="documents"}}': levels((50, 400)),
            f'ixt_step_work_expected{{{ANNOTATE}, unit="documents"}}': levels((100, 400)),
            f'ixt_annotation_tokens_total{{{JUDGED}, type="reasoning"}}': counts((6000, 120), (600, 60),
            (6000, 120)),
        },
        fires=170, silent=(100, 135, 220), labels={"severity": "warning", **IN_STAGE},
        summary="team-a/r, stage pretrain: the judge generates 10 tokens a second, far below its best of "
        "six hours",
    ),
    Alarm(
        "IXTInvalidFeedback",
        {
            f'ixt_step_gate_ratio{{{ANNOTATE}, gate="Invalid"}}': levels((0.2, 300)),
            f'ixt_annotation_documents_total{{{JUDGED}, result="Ok"}}': counts((80, 300)),
            f'ixt_annotation_documents_total{{{JUDGED}, result="BadJson"}}': counts((2, 60), (20, 60), (2,
            180)),
        },
        fires=110, silent=(50, 70, 170), labels={"severity": "warning", **IN_STAGE},
        summary="team-a/r, stage pretrain: 20% of the documents get no valid feedback, near the gate at "
        "which the run "
        "fails",
    ),
    Alarm(
        "IXTScoresCollapsed",
        score_buckets(
            counts((10, 120), (0, 180), (10, 200)), counts((20, 120), (0, 180), (20, 200)),
            counts((30, 120), (50, 180), (30, 200)), counts((40, 120), (50, 180), (40, 200)),
            counts((50, 500)), counts((50, 500)),
        ),
        fires=220, silent=(100, 150, 380), labels={"severity": "warning", **IN_STAGE},
        summary="team-a/r, stage pretrain: eight of ten documents score within 0.80 of each other",
    ),
    Alarm(
        "IXTSamplesCut",
        {
            f'ixt_generation_samples_total{{{ANSWERED}, result="Complete"}}': counts((20, 300)),
            f'ixt_generation_samples_total{{{ANSWERED}, result="Cut"}}': counts((5, 60), (50, 60), (5, 180)),
            f'ixt_generation_samples_total{{{ANSWERED}, result="Empty"}}': counts((0, 60), (10, 60), (0,
            180)),
        },
        fires=115, silent=(50, 70, 170), labels={"severity": "warning", **IN_STAGE},
        summary="team-a/r, stage pretrain: 75% of the policy's answers are cut at rollout.maxTokens, or "
        "empty",
    ),
    Alarm(
        "IXTLossNotFinite",
        {f'ixt_step_failed_attempts{{{TRAIN}, fault="Diverged"}}': levels((0, 30), (1, 200))},
        fires=31, silent=(20, 95), labels={"severity": "critical", **IN_TRAIN},
        summary="team-a/r, stage pretrain, train/conditioned: an attempt of the last hour diverged: its "
        "loss was not finite",
    ),
    Alarm(
        # The first failure makes the series.
        "IXTLossNotFinite",
        {f'ixt_step_failed_attempts{{{TRAIN}, fault="Diverged"}}': f"_x30 {levels((1, 200))}"},
        fires=31, silent=(20, 95), labels={"severity": "critical", **IN_TRAIN},
        summary="team-a/r, stage pretrain, train/conditioned: an attempt of the last hour diverged: its "
        "loss was not finite",
    ),
    Alarm(
        "IXTLossSpike", {f"ixt_training_loss{{{LANE}}}": levels((2, 60), (4, 20), (2, 100))},
        fires=75, silent=(50, 63, 95), labels={"severity": "warning", **IN_LANE},
        summary="team-a/r, stage pretrain, train/conditioned, seed 1: its loss is 4.00, far above that of "
        "the last two hours",
    ),
    Alarm(
        "IXTSlowRank",
        {
            **TRAINING,
            f'ixt_training_rank_step_seconds{{{LANE}, rank="Slowest"}}': levels((1, 10), (1.5, 50), (1, 60)),
            f'ixt_training_rank_step_seconds{{{LANE}, rank="Median"}}': levels((1, 120)),
            f'ixt_training_rank_step_seconds{{{DONE_LANE}, rank="Slowest"}}': levels((2, 120)),
            f'ixt_training_rank_step_seconds{{{DONE_LANE}, rank="Median"}}': levels((1, 120)),
        },
        fires=50, silent=(5, 30, 70), labels={"severity": "warning", **IN_LANE},
        summary="team-a/r, stage pretrain, train/conditioned, seed 1: its slowest rank takes 1.50 times as "
        "long as the "
        "median",
    ),
    Alarm(
        "IXTCheckpointOld",
        {
            **TRAINING,
            f"ixt_training_checkpoint_timestamp_seconds{{{LANE}}}": levels((0, 60), (3600, 25)),
            f"ixt_training_checkpoint_interval_seconds{{{LANE}}}": levels((600, 85)),
            f"ixt_training_checkpoint_timestamp_seconds{{{DONE_LANE}}}": levels((0, 85)),
            f"ixt_training_checkpoint_interval_seconds{{{DONE_LANE}}}": levels((600, 85)),
        },
        fires=40, silent=(20, 32, 65), labels={"severity": "warning", **IN_LANE},
        summary="team-a/r, stage pretrain, train/conditioned, seed 1: its last checkpoint is 40m 0s old",
    ),
    Alarm(
        "IXTNoLeader",
        # A change of leaders takes less than a minute.
        of_replicas("ixt_operator_leader", levels((1, 20), (0, 80)), levels((0, 22), (1, 18), (0, 20), (1,
        40))),
        fires=50, silent=(10, 21, 25, 70), labels={"severity": "critical", **IN_OPERATOR},
        summary="No operator leads: runs go on, but nothing new starts",
    ),
    Alarm(
        "IXTNoLeader", {"ixt_operator_leader{}": f"{levels((1, 10))} _x30 {levels((1, 60))}"},
        fires=30, silent=(5, 17, 50), labels={"severity": "critical"},
        summary="No operator leads: runs go on, but nothing new starts",
    ),
    Alarm(
        "IXTQueueStuck",
        of_replicas("ixt_operator_queue_oldest_seconds", levels((0, 10), (600, 30), (0, 40)), levels((0,
        80))),
        fires=20, silent=(5, 12, 45), labels={"severity": "critical", **IN_OPERATOR},
        summary="A run has been due for 10m 0s and is not looked at",
    ),
    Alarm(
        "IXTReconcileErrors",
        {
            f'ixt_operator_reconciles_total{{{REPLICAS[0]}, outcome="ok"}}': counts((30, 200)),
            f'ixt_operator_reconciles_total{{{REPLICAS[0]}, outcome="error"}}': counts((0, 30), (10, 60),
            (0, 110)),
        },
        fires=70, silent=(20, 35, 110), labels={"severity": "warning", **IN_OPERATOR},
        summary="25% of the operator's looks at runs end in an error",
    ),
    Alarm(
        "IXTNamespaceUnserved",
        {'ixt_operator_namespace_unserved{namespace="team-a", job="ixt", pod="a"}': levels((0, 10), (1, 30),
        (0, 40))},
        fires=25, silent=(5, 15, 45), labels={"severity": "warning", "namespace": "team-a"},
        summary="Namespace team-a cannot be served: its runs stand still",
    ),
    Alarm(
        "IXTFiguresMissing",
        of_replicas("ixt_operator_silent_pods", levels((0, 10), (3, 40), (0, 60)), levels((0, 110))),
        fires=30, silent=(5, 20, 55), labels={"severity": "warning", **IN_OPERATOR},
        summary="Figures of steps are missing: pods do not answer, or tell what cannot be",
    ),
    Alarm(
        "IXTFiguresMissing",
        {f'ixt_operator_figures_refused_total{{{REPLICAS[0]}, reason="NotFinite"}}': counts((0, 20), (5,
        40), (0, 60))},
        fires=50, silent=(15, 30, 80), labels={"severity": "warning", **IN_OPERATOR},
        summary="Figures of steps are missing: pods do not answer, or tell what cannot be",
    ),
)  # fmt: skip
