"""What Prometheus gets of runs and steps: from a run's manifest, and from what its processes told. Pure.

Series are made as lines of the text formats, which both have alike, since those of finished runs are kept
from scrape to scrape.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ixt_operator.api.status import ConditionStatus, ConditionType, Phase, Reason, unix
from ixt_workloads.contract import metrics as names
from ixt_workloads.contract.figures import Figures, in_all, together
from ixt_workloads.contract.metrics import METRICS, NODE, RUN, STEP_METRICS, Metric, Type
from ixt_workloads.contract.results import Progress
from ixt_workloads.contract.settings import Gates
from ixt_workloads.contract.versions import read_known

Manifest = Mapping[str, Any]

Lines = Mapping[str, Sequence[str]]
"""Lines by the name of their metric."""

STEP = NODE[len(RUN) : -1]
"""Labels of a step beside those of its run."""

FINISHED = (Phase.COMPLETE, Phase.FAILED)
MAX_MESSAGE = 200
"""Characters of a message that is shown."""
STALE_SECONDS = 60.0
"""A rate that nobody has told for this long is 0."""

COUNTS = {metric.name for metric in STEP_METRICS.values() if metric.type is not Type.GAUGE}
FADING = {metric.name for metric in STEP_METRICS.values() if metric.fades}


class Process(NamedTuple):
    """A process of a step, and what it told last."""

    running: bool = False
    ended: bool = False
    """It has said its last word."""
    figures: Figures = {}
    progress: Progress | None = None
    told_at: float = 0.0
    """Unix seconds of its last answer."""
    unheard: bool = False
    """It may have told another operator more than is known here."""


class Attempt(NamedTuple):
    """An attempt at a node."""

    stage: str
    step: str
    """Name of the node's entry in the status, which it shares with the other seeds and rounds."""
    kind: str
    arm: str
    seed: str
    """Empty where it has none."""
    number: int
    created_at: float
    """Unix seconds."""
    processes: Sequence[Process] = ()
    position: int | None = None
    """How many are before it in its queue, while it waits there."""
    round: int = 0
    """0 where it is of none."""


class Server(NamedTuple):
    """A server of a stage: its replicas by whether they are ready."""

    stage: str
    short: str
    ready: int = 0
    starting: int = 0


def finished(run: Manifest) -> bool:
    """Whether a run completed or failed."""
    return run.get("status", {}).get("phase") in FINISHED


def told(run: Manifest) -> Lines:
    """The series that a manifest says alone: they are others only when it is."""
    found: dict[str, list[str]] = defaultdict(list)
    spec, status = run["spec"], run.get("status", {})
    summary, cost, open_ = status.get("summary", {}), status.get("cost", {}), not finished(run)
    of_run = _of_run(run)

    def add(metric: Metric, value: Any, *own: str, of: str = of_run) -> None:
        found[metric.name].append(f"{metric.name}{{{_last(metric, own)}{of}}} {value}\n")

    add(names.RUN_INFO, 1, spec.get("queueName", ""), spec.get("runtimeRef", {}).get("name", "cpu"))
    add(names.RUN_PHASE, 1, status.get("phase", Phase.PENDING))
    for condition in status.get("conditions", ()):
        holds = condition["status"] == ConditionStatus.TRUE
        add(names.RUN_CONDITION, int(holds), condition["type"], condition["reason"])
    add(names.RUN_PROGRESS, summary.get("progressPercent", 0) / 100)
    for metric, moment in ((names.RUN_START, "startTime"), (names.RUN_COMPLETION, "completionTime")):
        if moment in status:
            add(metric, unix(status[moment]))
    for metric, amounts in ((names.RUN_FLOPS, "flops"), (names.RUN_SAVED_FLOPS, "savedFlops")):
        for purpose, number in cost.get(amounts, {}).items():
            add(metric, number, purpose)
    for metric, amounts in ((names.RUN_GPU_SECONDS, "gpuSeconds"), (names.RUN_CPU_SECONDS, "cpuSeconds")):
        # All purposes from the first second on: Prometheus sees no growth in what a counter begins with.
        if seconds := cost.get(amounts):
            for purpose in names.Spending:
                add(metric, seconds.get(purpose, 0), purpose)
    steps = [(stage["name"], step) for stage in status.get("stages", ()) for step in stage.get("steps", ())]
    add(names.RUN_CACHED, sum(bool(step.get("cached")) for _, step in steps))
    if "goodputPercent" in status:
        add(names.RUN_GOODPUT, status["goodputPercent"] / 100)
    for each in status.get("gains", ()):
        add(names.RUN_GAIN, each["gain"], each["stage"], each["arm"], each["baseline"], each["measure"])
    if open_:
        for metric, purpose, unsaved in _unsaved(status):
            add(metric, unsaved, purpose)
        if "etaSeconds" in summary:
            add(names.RUN_ETA, summary["etaSeconds"])
        if message := _message(status):
            add(names.RUN_MESSAGE, 1, message)
        for stage_entry in status.get("stages", ()):
            for metric, value in _rounds(stage_entry):
                add(metric, value, stage_entry["name"])
        for stage, step in steps:
            of_step = f"{of_run},{_of_step(stage, step['name'], step['kind'], step.get('arm', ''))}"
            for metric, value, own in (*_entry_says(step), *_gates(spec, stage, step)):
                add(metric, value, *own, of=of_step)
    return found


def live(run: Manifest, attempts: Iterable[Attempt], servers: Iterable[Server], now: float) -> Lines:
    """The series of a run that has not finished, of what its processes told."""
    found: dict[str, list[str]] = defaultdict(list)
    of_run, of_node, of_step = _of_run(run), defaultdict(list), defaultdict(list)
    for attempt in sorted(attempts, key=lambda each: (each.round, each.number, each.created_at)):
        of_node[attempt[:5]].append(attempt)
        of_step[attempt[:4]].append(attempt)

    def add(metric: Metric, value: Any, *own: str, of: str = of_run) -> None:
        found[metric.name].append(f"{metric.name}{{{_last(metric, own)}{of}}} {value}\n")

    if (left := _active_left(run, now)) is not None:
        add(names.RUN_DEADLINE, left)
    for step, tries in of_step.items():
        newest = {attempt.seed: attempt for attempt in tries}.values()
        labels = f"{of_run},{_of_step(*step)}"
        for metric, value, own in _speed(run, step, newest, now):
            add(metric, value, *own, of=labels)
        deadline = _deadline(run, step, tries)
        if deadline is not None:
            add(names.STEP_DEADLINE, round(deadline - now, 3), of=labels)
    for server in servers:
        add(names.SERVER_REPLICAS, server.ready, server.stage, server.short, "Ready")
        add(names.SERVER_REPLICAS, server.starting, server.stage, server.short, "Starting")
    for node, tries in of_node.items():
        labels = f"{of_run},{_of_step(*node[:4])},{_label('seed', node[4])}"
        if (position := tries[-1].position) is not None:
            add(names.QUEUE_POSITION, position, of=labels)
        for name, values in _figures(tries, now).items():
            found[name] += _lines(STEP_METRICS[name], labels, values)
    return found


def counted(runs: Iterable[Manifest]) -> Lines:
    """The number of runs of each phase."""
    phases: dict[tuple[str, str], int] = defaultdict(int)
    for run in runs:
        phases[run["metadata"]["namespace"], run.get("status", {}).get("phase", Phase.PENDING)] += 1
    name = names.RUNS.name
    return {
        name: [
            f"{name}{{{','.join(map(_label, names.RUNS.labels, key))}}} {number}\n"
            for key, number in phases.items()
        ]
    }


def text(parts: Iterable[Lines], *, openmetrics: bool) -> str:
    """All series, with the heads that Prometheus' own format or OpenMetrics has; without an end."""
    found: dict[str, list[str]] = defaultdict(list)
    for part in parts:
        for name, lines in part.items():
            found[name] += lines
    whole: list[str] = []
    for metric in METRICS:
        if metric.name in found:
            whole.append(_head(metric, openmetrics=openmetrics))
            whole += found[metric.name]
    return "".join(whole)


# The parts of a run


def _unsaved(status: Manifest) -> Iterator[tuple[Metric, str, float]]:
    """Seconds of work that is neither saved nor lost yet, by its purpose."""
    found: dict[tuple[bool, str], int] = defaultdict(int)
    for account in status.get("internal", {}).get("accounts", {}).values():
        if "work" in account:
            found[account.get("gpus", False), account["work"]] += account.get("unsaved", 0)
    for (gpus, purpose), milliseconds in found.items():
        yield (
            names.RUN_UNSAVED_GPU_SECONDS if gpus else names.RUN_UNSAVED_CPU_SECONDS, purpose,
            milliseconds / 1000,
        )  # fmt: skip


def _rounds(stage: Manifest) -> Iterator[tuple[Metric, float]]:
    """Series of a stage with rounds."""
    if "rounds" in stage:
        yield names.STAGE_ROUND, max((step.get("round", 0) for step in stage.get("steps", ())), default=0)
        yield names.STAGE_ROUNDS, stage["rounds"]
    if "etaSeconds" in stage:
        yield names.STAGE_ETA, stage["etaSeconds"]


def _entry_says(step: Manifest) -> Iterator[tuple[Metric, Any, tuple[str, ...]]]:
    """Series of an entry of the status, with the labels that are theirs alone."""
    unit = _unit(step.get("unit", ""))
    yield names.STEP_STATE, 1, (step["state"],)
    if unit:
        yield names.STEP_DONE, step.get("done", 0), (unit,)
    if unit and "total" in step:
        yield names.STEP_EXPECTED, step["total"], (unit,)
    for fault, number in step.get("attemptsByFault", {}).items():
        yield names.STEP_FAILED, number, (fault,)


def _unit(told: str) -> str:
    """The unit as a label: pods may tell any, and others each time."""
    return told if told in names.UNITS or not told else "units"


def _gates(spec: Manifest, stage: str, step: Manifest) -> Iterator[tuple[Metric, float, tuple[str, ...]]]:
    """The limits of an annotation."""
    if step["kind"] == "Annotate":
        given: Manifest = next((each for each in spec["stages"] if each["name"] == stage), {})
        gates = read_known(Gates, given.get("annotate", {}).get("gates", {}))
        yield names.STEP_GATE, gates.max_invalid_percent / 100, ("Invalid",)
        yield names.STEP_GATE, gates.max_overlap_percent / 100, ("Overlap",)
        if "rollout" in given:
            yield names.STEP_GATE, gates.max_contradiction_percent / 100, ("Contradiction",)
            yield names.STEP_GATE, gates.max_quoting_percent / 100, ("Quoting",)


def _speed(
    run: Manifest, step: tuple[str, ...], newest: Iterable[Attempt], now: float
) -> Iterator[tuple[Metric, float, tuple[str, ...]]]:
    """Rate and time left of a step that runs. `newest` are its seeds' attempts."""
    newest = [*newest]
    running = [each for attempt in newest for each in attempt.processes if each.running and each.progress]
    if not running:
        return
    heard = [each.progress for each in running if each.progress and now - each.told_at < STALE_SECONDS]
    rate = sum(progress.per_second or 0.0 for progress in heard)
    steady = sum(progress.steady_per_second or progress.per_second or 0.0 for progress in heard)
    entry = _entry(run, step)
    unit = entry.get("unit") or next((each.progress.unit for each in running if each.progress), "")
    yield names.STEP_RATE, rate, (_unit(unit),)
    left = _left(newest) if "round" in entry else entry.get("total", 0) - entry.get("done", 0)
    if steady > 0 and "total" in entry:
        yield names.STEP_ETA, max(0.0, left) / steady, ()


def _left(newest: Iterable[Attempt]) -> float:
    """What attempts that run have still to do, of the rounds that they are of."""
    left = 0.0
    for attempt in newest:
        told = [each.progress for each in attempt.processes if each.running and each.progress]
        # Processes that share a step's work tell one total.
        total = max((each.total for each in told if each.total is not None), default=0.0)
        left += max(0.0, total - sum(each.done for each in told))
    return left


def _figures(tries: Sequence[Attempt], now: float) -> Mapping[str, Mapping[str, float]]:
    """Figures of a node: what is counted over all its attempts, the rest of the newest alone."""
    everybody = [each for attempt in tries for each in attempt.processes]
    counts = [] if any(each.unheard for each in everybody) else [each.figures for each in everybody]
    newest = [_as_of(each, now) for each in tries[-1].processes]
    return together(_of_type(each, counts=True) for each in counts) | together(
        _of_type(each, counts=False) for each in newest
    )


def _of_type(figures: Figures, *, counts: bool) -> Figures:
    return {name: values for name, values in figures.items() if (name in COUNTS) is counts}


def _as_of(process: Process, now: float) -> Figures:
    """A process' figures, without its last speed once it does not work any more."""
    there = process.running and now - process.told_at < STALE_SECONDS
    if there and (process.progress is None or process.progress.per_second != 0):
        return process.figures
    nothing = FADING if there else FADING | {names.REQUESTS_OPEN.name}
    return {
        name: dict.fromkeys(values, 0.0) if name in nothing else values
        for name, values in process.figures.items()
    }


def _message(status: Manifest) -> str:
    """What the newest condition says that has something to say. What steps report all the time is no such
    thing."""
    conditions = {entry["type"]: entry for entry in status.get("conditions", ())}
    accepted = conditions.get(ConditionType.ACCEPTED, {})
    others = [conditions.get(type_, {}) for type_ in (ConditionType.SUSPENDED, ConditionType.PROGRESSING)]
    # Once a run is accepted, what changed since is less than what it waits for.
    taken = accepted.get("status") == ConditionStatus.TRUE
    for condition in (*others, accepted) if taken else (accepted, *others):
        if condition.get("message") and condition["reason"] != Reason.STEPS_RUNNING:
            words = " ".join(condition["message"].split())
            return "".join(filter(str.isprintable, words))[:MAX_MESSAGE]
    return ""


def _active_left(run: Manifest, now: float) -> float | None:
    """Seconds that activeDeadlineSeconds leaves; those of suspensions are not counted."""
    allowed, status = run["spec"].get("activeDeadlineSeconds"), run.get("status", {})
    if allowed is None or "startTime" not in status:
        return None
    rested = status.get("internal", {}).get("suspendedSeconds", 0)
    for condition in status.get("conditions", ()):
        if condition["type"] == ConditionType.SUSPENDED and condition["status"] == ConditionStatus.TRUE:
            rested += max(0.0, now - unix(condition["lastTransitionTime"]))
    return round(unix(status["startTime"]) + float(rested) + float(allowed) - now, 3)


def _deadline(run: Manifest, step: tuple[str, ...], tries: Iterable[Attempt]) -> float | None:
    """When a step of Annotate is to be done, in Unix seconds; None for others and for one that is done."""
    if step[2] != "Annotate" or _entry(run, step).get("state") == "Complete":
        return None
    for stage in run["spec"]["stages"]:
        seconds = stage.get("annotate", {}).get("deadlineSeconds")
        if stage["name"] == step[0] and seconds is not None:
            newest = max(attempt.round for attempt in tries)
            begun = (attempt.created_at for attempt in tries if attempt.round == newest)
            return min(begun) + float(seconds)
    return None


def _entry(run: Manifest, step: tuple[str, ...]) -> Manifest:
    """A step's entry of the status."""
    for stage in run.get("status", {}).get("stages", ()):
        if stage["name"] == step[0]:
            return next((entry for entry in stage.get("steps", ()) if entry["name"] == step[1]), {})
    return {}


# Lines


def _of_run(run: Manifest) -> str:
    metadata = run["metadata"]
    return f"{_label('namespace', metadata['namespace'])},{_label('run', metadata['name'])}"


def _of_step(*values: str) -> str:
    return ",".join(map(_label, STEP, values))


def _last(metric: Metric, values: Sequence[str]) -> str:
    """The last labels of a metric, to stand before the others."""
    names_ = metric.labels[len(metric.labels) - len(values) :]
    return "".join(f"{_label(name, value)}," for name, value in zip(names_, values, strict=True))


@lru_cache(maxsize=8192)
def _of_figure(name: str, values: str) -> str:
    """The labels of a figure, which come with commas between them."""
    return _last(STEP_METRICS[name], values.split(",")) if STEP_METRICS[name].labels else ""


@lru_cache(maxsize=8192)
def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{escaped}"'


def _lines(metric: Metric, labels: str, values: Mapping[str, float]) -> Iterable[str]:
    """Lines of a metric that a step told."""
    name = metric.name
    if metric.type is not Type.HISTOGRAM:
        return [f"{name}{{{_of_figure(name, own)}{labels}}} {value}\n" for own, value in values.items()]
    buckets, total = in_all(metric, values)
    found = [f'{name}_bucket{{le="{upper}",{labels}}} {number}\n' for upper, number in buckets]
    found.append(f"{name}_count{{{labels}}} {buckets[-1][1]}\n")
    found.append(f"{name}_sum{{{labels}}} {total}\n")
    return found


def _head(metric: Metric, *, openmetrics: bool) -> str:
    name = metric.name.removesuffix("_total") if openmetrics else metric.name
    return f"# HELP {name} {metric.help}\n# TYPE {name} {metric.type}\n"
