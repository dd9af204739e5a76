"""The parts of a run's dashboard about training and evaluation: curves by arm and seed, speed, memory,
scores."""

from ixt_dashboards import look, panels
from ixt_dashboards.page import Section
from ixt_dashboards.panels import Query, Style, curves, lines, listing
from ixt_dashboards.queries import LANE, by, in_arms, last, series
from ixt_workloads.contract import metrics as m
from ixt_workloads.contract.metrics import Metric

CURVE = "{{stage}} {{arm}} {{seed}}"
IDLE = "Nothing trains in this time"


def _lanes(metric: Metric, *labels: str, matchers: tuple[str, ...] = ()) -> str:
    return by((*LANE, *labels), series(metric, *in_arms(*matchers)))


def _of_lanes(metric: Metric) -> list[Query]:
    return [Query(_lanes(metric), CURVE)]


def _named(expression: str, *labels: str) -> str:
    """The same with the label `curve`, which names the line in a chart."""
    joined = ", ".join(f'"{label}"' for label in (*LANE, *labels))
    return f'label_join({expression}, "curve", " ", {joined})'


def _over(across: Metric, up: Metric) -> tuple[str, str]:
    """Queries of a chart of one metric of training over another, where both are."""
    on = f"on ({', '.join(LANE)})"
    return tuple(
        _named(f"{_lanes(one)} and {on} {_lanes(other)}") for one, other in ((across, up), (up, across))
    )  # type: ignore[return-value]


def _scores_over_flops() -> tuple[str, str]:
    """Total FLOPs of each lane for each of its scores in training, and these scores."""
    scores, flops = _lanes(m.SCORE, "prefix", "task"), _lanes(m.TOTAL_FLOPS)
    on = f"on ({', '.join(LANE)})"
    across = f"({scores} * 0 + 1) * {on} group_left () {flops}"
    return _named(across, "prefix", "task"), _named(f"{scores} and {on} {flops}", "prefix", "task")


def training() -> Section:
    """Curves of the loss, and how fast it goes."""
    return Section("Training", (
        curves(
            "Loss over tokens", "Mean loss of the last step, in nats a token, over the tokens that the lane "
            "has read.",
            *_over(m.TRAINED_TOKENS, m.LOSS), ("Tokens", "short"), Style(decimals=3, empty=IDLE),
        ),
        curves(
            "Loss over total FLOPs", "The same over all that the lane has cost: its tokens, the stages "
            "before and their "
            "annotation. At equal FLOPs arms compare.",
            *_over(m.TOTAL_FLOPS, m.LOSS), ("FLOPs", look.FLOPS), Style(decimals=3, empty=IDLE),
        ),
        lines(
            "Loss", "Mean loss of the last step, in nats a token. Mixtures of experts also have what is "
            "added for experts that are used unevenly.",
            [*_of_lanes(m.LOSS), Query(_lanes(m.ROUTER_LOSS), f"{CURVE} router")],
            Style(decimals=3, empty=IDLE), (8, 8),
        ),
        lines(
            "Tokens a second", "Of all ranks of a lane. A training that hangs shows none.",
            _of_lanes(m.TOKEN_RATE), Style(low=0, empty=IDLE), (8, 8),
        ),
        lines(
            "MFU", "Share of the devices' peak FLOP/s that training uses; only where the device's peak is "
            "known.",
            _of_lanes(m.MFU), Style("percentunit", 1, low=0, empty="The device's peak is not known, or "
            "nothing trains"), (8, 8),
        ),
    ))  # fmt: skip


def evaluation() -> Section:
    """Scores by arm, prefix and task."""
    labels, gained = ("stage", "arm", "prefix", "task"), ("stage", "arm", "baseline", "measure")
    return Section("Evaluation", (
        curves(
            "Score over total FLOPs", "Scores in training, 0 to 1, over all that the lane has cost.",
            *_scores_over_flops(), ("FLOPs", look.FLOPS),
            Style("percentunit", 1, low=0, high=1, empty="No score in this time"), (16, 11),
        ),
        lines(
            "Loss on held-out documents", "By prefix: asked for the best, for the worst, or for nothing.",
            [Query(_lanes(m.HELD_OUT_LOSS, "prefix"), f"{CURVE} {{{{prefix}}}}")],
            Style(decimals=3, empty="No evaluation in this time"), (8, 11),
        ),
        listing(
            "Newest scores", "The mean over seeds of what each arm scored last, by prefix and task, and the "
            "loss on "
            "held-out documents.",
            {
                "Score": by(labels, by((*LANE, "prefix", "task"), last(m.SCORE, *in_arms())), "avg"),
                "Held-out loss": by(labels[:-1], by((*LANE, "prefix"), last(m.HELD_OUT_LOSS, *in_arms())),
                "avg"),
            },
            {
                "stage": ("Stage", {"custom.width": 110}), "arm": ("Arm", {}),
                "prefix": ("Prefix", {"custom.width": 80}), "task": ("Task", {}),
                "Score": ("Score", {**panels.PROGRESS, "decimals": 1, "custom.width": 200}),
                "Held-out loss": ("Held-out loss", {"decimals": 3, "custom.width": 120}),
            },
            Style(empty="No score in this time"), (16, 9), sort="Score",
        ),
        panels.bars(
            "What asking for the best is worth", "Score asked for the best less that without prefix, for one "
            "and the same model.",
            [panels.now(f"{_asked('Best')} - {_asked('None')}", "{{stage}} {{arm}} {{task}}")],
            Style("percentunit", 1, look.above((0, look.GOOD), base=look.BAD), empty="Not known yet"), (8, 9),
        ),
        listing(
            "Gain at equal FLOPs", "What each arm gains over the baseline after the same total FLOPs, "
            "annotation included, by the verdict of the report: as accuracy, or as log-probability of "
            "held-out documents in nats a token. While lanes train, \"Score over total FLOPs\" shows it.",
            {"Gain": by(gained, last(m.RUN_GAIN, *in_arms()))},
            {
                "stage": ("Stage", {"custom.width": 110}), "arm": ("Arm", {}), "baseline": ("Over", {}),
                "measure": ("Measure", {}),
                "Gain": ("Gain", {
                    "decimals": 3, "custom.cellOptions": {"type": "color-text"},
                    "thresholds": {"mode": "absolute", "steps": look.above((0, look.GOOD), base=look.BAD)},
                }),
            },
            Style(empty="Known when the report is"), (24, 6), sort="Gain",
        ),
    ))  # fmt: skip


def _asked(prefix: str) -> str:
    """Scores of arms when asked with a prefix."""
    scores = last(m.SCORE, *in_arms(f'prefix="{prefix}"'))
    return by(["stage", "arm", "task"], by((*LANE, "task"), scores), "avg")


def speed() -> Section:
    """Where the time of a step goes, and what else is worth a look when training is slow or unsteady."""
    part, rank, kind = "{{part}}", "{{rank}}", "{{type}}"
    age = f"time() - {_lanes(m.CHECKPOINT_TIME)}"
    return Section("Speed, memory and checkpoints of training", (
        lines(
            "Time of a step by part", "Seconds of the last step: for data, computing, exchange among ranks, "
            "update; the mean "
            "of lanes.",
            [Query(by(["part"], _lanes(m.STEP_SECONDS, "part"), "avg"), part)],
            Style("s", low=0, colours=look.PARTS, empty=IDLE), (12, 9), stacked=True,
        ),
        lines(
            "Memory", "Of the rank that has most.",
            [Query(_lanes(m.MEMORY, "type"), f"{CURVE} {kind}")],
            Style("bytes", low=0, empty=IDLE), (12, 9),
        ),
        lines(
            "Slowest rank and median", "Seconds that ranks computed in the last step, without waiting. The "
            "others wait for "
            "the slowest.",
            [Query(_lanes(m.RANK_SECONDS, "rank"), f"{CURVE} {rank}")],
            Style("s", low=0, empty=IDLE), (12, 8),
        ),
        lines(
            "Which rank is slowest", "One number over hours: that machine is sick. Many: it is noise.",
            _of_lanes(m.SLOWEST_RANK), Style(decimals=0, low=0, empty=IDLE), (12, 8),
        ),
        lines(
            "Gradient's norm", "Before it is clipped. It leaps before a loss does.",
            _of_lanes(m.GRADIENT_NORM), Style(decimals=3, low=0, empty=IDLE), (8, 8),
        ),
        lines("Learning rate", "Of the last step.", _of_lanes(m.LEARNING_RATE), Style("sci", 2, low=0,
        empty=IDLE), (8, 8)),
        lines(
            "Optimizer steps", "A resume goes back to its checkpoint.",
            [*_of_lanes(m.TRAINED_STEPS), Query(by((), _lanes(m.RESUMED_STEPS)), "Resumed from")],
            Style("locale", 0, low=0, empty=IDLE), (8, 8),
        ),
        lines(
            "Age of the checkpoint", "What a failure now would lose, with the interval that is set.",
            [Query(age, CURVE), Query(by((), _lanes(m.CHECKPOINT_INTERVAL)), "Interval")],
            Style("s", low=0, colours={"Interval": look.FAIR}, empty=IDLE), (12, 8),
        ),
        lines(
            "Duration of checkpoints and evaluations", "Seconds of the last of each.",
            [
                Query(by((), _lanes(m.CHECKPOINT_SECONDS)), "Checkpoint"),
                Query(by((), _lanes(m.EVALUATION_SECONDS)), "Evaluation"),
            ],
            Style("s", low=0, empty=IDLE), (12, 8),
        ),
        lines(
            "Size of checkpoints", "Bytes of the last checkpoint.",
            _of_lanes(m.CHECKPOINT_BYTES), Style("bytes", 1, low=0, empty="No checkpoint in this time"),
            (12, 7),
        ),
        lines(
            "FLOPs of the tokens read", "Without annotation and the stages before.",
            _of_lanes(m.TRAINED_FLOPS), Style(look.FLOPS, 1, low=0, empty=IDLE), (12, 7),
        ),
    ), collapsed=True)  # fmt: skip
