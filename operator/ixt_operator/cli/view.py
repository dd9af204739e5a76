"""A run on a terminal: a live tree, or plain lines where there is none."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ixt_operator.adapters.local.loop import Look
from ixt_operator.api.status import (
    ConditionType,
    Phase,
    Reason,
    RunStatus,
    StageStatus,
    StepState,
    StepStatus,
    unix,
)
from ixt_operator.cli.curves import BLOCKS, Curves
from ixt_operator.planner.entries import failed_attempts
from ixt_operator.planner.observed import ChildState, Observed
from ixt_workloads.contract import metrics
from ixt_workloads.contract.figures import bound

MARKS = {
    StepState.WAITING: ("·", "dim"),
    StepState.RUNNING: ("▶", "cyan"),
    StepState.COMPLETE: ("✔", "green"),
    StepState.FAILED: ("✘", "red"),
}
SHOWN = {
    metrics.LOSS: "loss",
    metrics.LEARNING_RATE: "learning rate",
    metrics.GRADIENT_NORM: "gradient norm",
    metrics.OVERLAP: "overlap",
}
"""Figures of a step that its line shows, and their words."""
STYLES = {Phase.COMPLETE: "green", Phase.FAILED: "red", Phase.SUSPENDED: "yellow"}
SHARES = f" {BLOCKS}"
"""Shares from none to all."""
PLAIN_SECONDS, PLAIN_SHARE, MOST_PLAIN_SECONDS = 15.0, 0.05, 600.0
"""Between two lines of progress, where there is no terminal: at least so long, later this share of the time
so far, at most so long."""
MOST_CURVES = 4
"""Trainings whose curves are shown below the tree."""
TOLD = ("AttemptFailed", "LaneFailed", "StepBlocked")
"""Warnings that are shown as they come. Why the run failed is printed once, at its end."""
NOTE_LINES = 3
"""Room below the tree for what the run waits for; kept free, so that the tree does not jump."""
STOPPING = "stopping: what runs saves its state; Ctrl-C again ends it at once"


@contextmanager
def watching(console: Console, name: str, workdir: Path) -> Iterator[Callable[[Look], None]]:
    """A function to show each look with: as a live tree with curves on a terminal, else as lines."""
    if not console.is_terminal:
        yield _plain(console)
        return
    curves = Curves(workdir)
    # Drawn at each look only: looks come as often as there is something new.
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def show(look: Look) -> None:
            for event in look.events:
                if event.warning and event.reason in TOLD:
                    live.console.print(Text(f"{event.reason}: {event.message}", style="yellow"))
            note = Text(STOPPING if look.stopping else _note(look.status, look.due), style="dim")
            note.truncate((NOTE_LINES - 1) * console.width, overflow="ellipsis")  # words wrap into one more
            lines = curves.shown(look.status)[:MOST_CURVES]
            room = console.height - NOTE_LINES - 1 - len(lines)
            drawn = tree(name, look.status, look.observed, room)
            live.update(Group(drawn, *lines, *([note] if note else [])), refresh=True)

        yield show


def _plain(console: Console) -> Callable[[Look], None]:
    """A function that prints a look's events with the time, and now and then how far it is."""
    began = last = time.monotonic()
    said = ""
    since: dict[str, float] = {}
    """When each step began."""
    resumed: dict[str, float] = {}

    def say(text: str) -> None:
        clock = time.strftime("%H:%M:%S")
        console.print(f"{clock} {text}", markup=False, highlight=False, soft_wrap=True)

    def show(look: Look) -> None:
        nonlocal last, said
        now = time.monotonic()
        for event in look.events:
            step = event.message.partition(" ")[0]
            if event.reason == "StepStarted":
                since[step] = now
            if event.reason in TOLD or not event.warning:
                ended = event.reason == "StepComplete" and step in since
                took = f" in {duration(now - since[step])}" if ended else ""
                say(f"{event.reason}: {event.message}{took}")
        for child in look.observed.all:
            steps = _resumed(child)
            if steps and resumed.get(child.name) != steps:
                resumed[child.name] = steps
                say(f"{child.node} resumed from step {steps:,.0f}")
        if look.stopping:
            say(STOPPING)
        summary = look.status.summary
        every = min(MOST_PLAIN_SECONDS, max(PLAIN_SECONDS, PLAIN_SHARE * (now - began)))
        if now - last >= every and summary.step:
            last = now
            text = _figures_of_summary(look) or _note(look.status, look.due)
            line = f"{summary.progress_percent}% {summary.stage}/{summary.step}  {text}".rstrip()
            if line != said:
                say(line)
            said = line

    return show


def _resumed(child: ChildState) -> float:
    """From which step a training's attempt goes on; 0 of one that does not."""
    progress = child.progress
    return progress.figures.get(metrics.RESUMED_STEPS.name, {}).get("", 0.0) if progress else 0.0


def _figures_of_summary(look: Look) -> str:
    """Figures of the step that the summary is about, if a child of it runs."""
    summary = look.status.summary
    for child in look.observed.all:
        if child.live and child.in_stage == summary.step:
            for stage, step in look.status.steps:
                if stage == summary.stage and child.told_by(stage, step.name):
                    return figures(step, child)
    return ""


def tree(
    name: str,
    status: RunStatus,
    observed: Observed | None = None,
    height: int | None = None,
) -> RenderableType:
    """Stages, steps and arms with state, progress, rate and time left, in `height` lines if that can be.

    What does not fit is summed up: first each stage that is done or not begun, in a line, then each stage's
    steps that do not run.
    """
    shown = {stage.name for stage in status.stages}
    if height is not None and _lines(status, shown) > height:
        shown = {stage.name for stage in _active(status)}
    steps_fit = height is None or _lines(status, shown) <= height
    width = max((len(step.name) for _, step in status.steps), default=0)
    children = observed.all if observed else ()
    root = Tree(_head(name, status), guide_style="dim")
    for stage in status.stages:
        if stage.name not in shown:
            root.add(_stage_line(stage))
            continue
        branch = root.add(Text.assemble((stage.name, "bold"), (_rounds(stage), "dim")))
        for step in stage.steps:
            if steps_fit or step.state in (StepState.RUNNING, StepState.FAILED):
                live = (child for child in children if child.live)
                child = next((each for each in live if each.told_by(stage.name, step.name)), None)
                branch.add(_step_line(step, child, width))
        if not steps_fit:
            branch.add(_counts(stage))
    return root


def tree_and_note(name: str, status: RunStatus) -> RenderableType:
    """The tree, and below it why the run failed, or what it waits for."""
    telling = {Phase.FAILED: ConditionType.FAILED, Phase.SUSPENDED: ConditionType.SUSPENDED}
    condition = status.condition(telling[status.phase]) if status.phase in telling else None
    accepted = status.is_true(ConditionType.ACCEPTED)
    note = condition.message if condition and accepted else status.summary.message
    style = "red" if status.phase is Phase.FAILED else "dim"
    lines = [Text(note, style=style)] if note else []
    changed = status.condition(ConditionType.ACCEPTED) if accepted else None
    if changed and changed.message:
        lines.append(Text(changed.message, style="dim"))
    return Group(tree(name, status), *lines, *_log_tail(status, note), *time_spent(status))


def _log_tail(status: RunStatus, said: str) -> Iterator[Text]:
    """Last lines of the log of the attempt that failed last, unless they were said or all is well by now."""
    tails = [failure for failure in status.failures if failure.log_tail]
    if tails and status.phase is not Phase.COMPLETE and tails[-1].log_tail[-100:] not in said:
        heading = f"last lines of the log of {tails[-1].step}, attempt {tails[-1].attempt}:"
        yield Text(f"{heading}\n{tails[-1].log_tail}", style="dim")


def time_spent(status: RunStatus) -> tuple[Text, ...]:
    """What the run's time on its machines was spent on, in a line; none before any was."""
    seconds, what = status.cost.gpu_seconds, "GPU"
    if not seconds:
        seconds, what = status.cost.cpu_seconds, "processor"
    if not seconds:
        return ()
    parts = (f"{name.lower()} {_hours(n)}" for name, n in sorted(seconds.items(), key=lambda part: -part[1]))
    share = f"{status.goodput_percent} % productive: {', '.join(parts)}"
    return (Text(f"{_hours(sum(seconds.values()))} {what}-hours, {share}", style="dim"),)


def _hours(seconds: int) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _active(status: RunStatus) -> list[StageStatus]:
    """Stages in which something goes on or failed, and the first that is not complete."""
    found: list[StageStatus] = []
    for stage in status.stages:
        states = {step.state for step in stage.steps}
        if states <= {StepState.COMPLETE}:
            continue
        if not found or states & {StepState.RUNNING, StepState.FAILED}:
            found.append(stage)
    return found


def _lines(status: RunStatus, shown: set[str]) -> int:
    return 1 + sum(1 + (len(stage.steps) if stage.name in shown else 0) for stage in status.stages)


def _head(name: str, status: RunStatus) -> RenderableType:
    summary, style = status.summary, STYLES.get(status.phase, "cyan")
    suspended = status.condition(ConditionType.SUSPENDED)
    stopped = suspended is not None and suspended.reason == Reason.STOPPED
    line = Table.grid(padding=(0, 1))
    line.add_row(
        Text(name, style="bold"),
        ProgressBar(total=100, completed=summary.progress_percent, width=24, complete_style=style),
        Text(f"{summary.progress_percent}%"),
        Text("Stopped", style=style)
        if stopped
        else Text.assemble((status.phase.value, style), " ", (_elapsed(status), "dim"), no_wrap=True),
    )
    return line


def _elapsed(status: RunStatus) -> str:
    if status.start_time is None:
        return ""
    end = unix(status.completion_time) if status.completion_time else time.time()
    elapsed = duration(end - unix(status.start_time))
    if status.ended or status.summary.eta_seconds is None:
        return elapsed
    return f"{elapsed}, {duration(status.summary.eta_seconds)} left in {status.summary.step}"


def _note(status: RunStatus, due: float | None) -> str:
    """What the run waits for, and for how long."""
    summary = status.summary
    if status.phase is not Phase.RUNNING or not summary.stage:
        return ""
    progressing = status.condition(ConditionType.PROGRESSING)
    message = _from_here(summary.message)
    if due is None or progressing is None:
        return message
    again = progressing.reason in (Reason.RETRYING, Reason.CLAIM_HELD)
    return f"in {duration(due)}: {message}" if again else message


def _stage_line(stage: StageStatus) -> Text:
    states = {step.state for step in stage.steps}
    mark, style = MARKS[StepState.COMPLETE if states == {StepState.COMPLETE} else StepState.WAITING]
    about = f"{_rounds(stage)}  {len(stage.steps)} steps"
    return Text.assemble((f"{mark} {stage.name}", style), (about, "dim"))


def _rounds(stage: StageStatus) -> str:
    """Which round a stage is in, and how long its rounds will take; nothing of a stage without rounds."""
    if stage.rounds is None:
        return ""
    begun = max((step.round or 0 for step in stage.steps), default=0)
    if begun == 0 or {step.state for step in stage.steps} == {StepState.COMPLETE}:
        return f"  {stage.rounds} round{'s' if stage.rounds > 1 else ''}"
    left = "" if stage.eta_seconds is None else f"  about {duration(stage.eta_seconds)} left"
    return f"  round {begun} of {stage.rounds}{left}"


def _counts(stage: StageStatus) -> Text:
    """How many of a stage's steps are not shown, by state."""
    states = Counter(step.state for step in stage.steps)
    quiet = (StepState.COMPLETE, StepState.WAITING)
    return Text(
        ", ".join(f"{states[state]} {state.lower()}" for state in quiet if states[state]), style="dim"
    )


def _step_line(step: StepStatus, child: ChildState | None, width: int) -> Text:
    mark, style = MARKS[step.state]
    name = (f"{mark} {step.name:{width}}  ", style)
    failed = step.state is StepState.FAILED
    line = Text.assemble(name, (figures(step, child), style if failed else ""))
    line.rstrip()
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def sparkline(scores: Mapping[str, float]) -> str:
    """A histogram of scores as a row of blocks, from the lowest to the highest bucket that holds any, between
    their upper bounds."""
    bounds = [bound(upper) for upper in (*metrics.SCORES.buckets, math.inf)]
    held = [place for place, upper in enumerate(bounds) if scores.get(upper)]
    if not held:
        return ""
    counts = [scores.get(upper, 0) for upper in bounds[held[0] : held[-1] + 1]]
    blocks = "".join(SHARES[round(count / max(counts) * (len(SHARES) - 1))] for count in counts)
    return f"{bounds[held[0]]} {blocks} {bounds[held[-1]]}"


def figures(step: StepStatus, child: ChildState | None) -> str:
    """Done, total, rate, time left and the last figures of a step, or why it failed, in a line."""
    message = step.message.partition("\n")[0]
    failures = failed_attempts(step)
    failed = f"{failures} failure{'s' if failures > 1 else ''}" if failures else ""
    if step.state is StepState.FAILED:
        return "  ".join(filter(None, (failed if failures > 1 else "", message)))
    parts = [f"round {step.round}"] if step.round and step.state is not StepState.COMPLETE else []
    progress = child.progress if child and step.state is StepState.RUNNING else None
    if step.total and step.unit:
        done = step.total if step.state is StepState.COMPLETE else step.done
        parts.append(f"{amount(done)}/{amount(step.total)} {step.unit}")
    if progress and progress.per_second:
        parts.append(f"{amount(progress.per_second)}/s")
    if progress and (left := progress.seconds_left) is not None:
        parts.append(f"{duration(left)} left")
    if child and progress and (steps := _resumed(child)):
        parts.append(f"resumed from step {steps:,.0f}")
    if failed:
        parts.append(failed)
    if progress:
        parts += [
            f"{word} {value:.4g}"
            for metric, word in SHOWN.items()
            if (value := progress.figures.get(metric.name, {}).get("")) is not None
        ]
        if scores := progress.figures.get(metrics.SCORES.name):
            parts.append(f"scores {sparkline(scores)}")
    elif step.state is StepState.RUNNING and message:
        parts.append(message)
    if step.cached:
        parts.append("cached")
    return "  ".join(parts) or message


def amount(number: float) -> str:
    """A count as people read it: 950, 12.3k, 4.1M, 2.0B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}" if abs(number) >= 10 or number == int(number) else f"{number:.1f}"


def reason(status: RunStatus, logs: Path) -> Text:
    """Why a run failed and where its logs are; empty for one that did not."""
    failed = status.condition(ConditionType.FAILED)
    if status.phase is not Phase.FAILED or not failed:
        return Text()
    return Text(f"{_from_here(failed.message)}\nlogs: {place(logs)}\n")


def failure(name: str, last: Look, again: str) -> Text:
    """What failed and why, where its logs are, and how to go on. `last` is the last look at the run."""
    failed = last.status.condition(ConditionType.FAILED)
    what, _, more = _from_here(failed.message if failed else "").partition("\n")
    lines = [(f"{name} failed: {what}", "bold red"), (more, "")]
    lines += [(f"log: {place(path)}", "") for path in _logs_of_failures(last)]
    lines.append((f"once that is mended, go on with: {again}", ""))
    return Text("\n").join(Text(text, style=style) for text, style in lines if text)


def _logs_of_failures(look: Look) -> list[Path]:
    """Logs of the newest attempts of steps that were given up."""
    newest: dict[str, ChildState] = {}
    for stage, step in look.status.steps:
        for child in look.observed.all:
            if step.state is StepState.FAILED and child.told_by(stage, step.name):
                newest[child.node] = max(newest.get(child.node, child), child, key=lambda c: c.attempt)
    failed = [process for child in newest.values() for process in child.failed]
    return [Path(process.log) for process in failed if process.log]


def place(path: Path) -> str:
    """A path as people type it: from the current folder, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _from_here(message: str) -> str:
    """A message with its paths as `place` writes them."""
    return message.replace(f" {Path.cwd()}/", " ")


def duration(seconds: float) -> str:
    """A duration as people write it: 42s, 3m10s, 1h12m, 5d3h."""
    whole = max(0, round(seconds))
    minutes, seconds_left = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days}d{hours_left}h"
    if hours:
        return f"{hours}h{minutes_left:02d}m"
    return f"{minutes}m{seconds_left:02d}s" if minutes else f"{seconds_left}s"
