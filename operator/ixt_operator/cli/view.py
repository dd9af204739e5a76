"""A run on a terminal: a live tree, or plain lines where there is none."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
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
from ixt_operator.planner.entries import failed_attempts
from ixt_operator.planner.observed import ChildState, Observed

MARKS = {
    StepState.WAITING: ("·", "dim"),
    StepState.RUNNING: ("▶", "cyan"),
    StepState.COMPLETE: ("✔", "green"),
    StepState.FAILED: ("✘", "red"),
}
STYLES = {Phase.COMPLETE: "green", Phase.FAILED: "red", Phase.SUSPENDED: "yellow"}
PLAIN_SECONDS = 15.0
"""Between two lines of progress where there is no terminal."""
NOTE_LINES = 3
"""Room below the tree for what the run waits for; kept free, so that the tree does not jump."""
STOPPING = "stopping: what runs saves its state; Ctrl-C again ends it at once"


@contextmanager
def watching(console: Console, name: str) -> Iterator[Callable[[Look], None]]:
    """A function to show each look with: as a live tree on a terminal, else as lines."""
    if not console.is_terminal:
        yield _plain(console)
        return
    # Drawn at each look only: looks come as often as there is something new.
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def show(look: Look) -> None:
            for event in look.events:
                if event.warning and event.reason == "AttemptFailed":
                    live.console.print(Text(f"{event.reason}: {event.message}", style="yellow"))
            note = Text(STOPPING if look.stopping else _note(look.status, look.due), style="dim")
            note.truncate((NOTE_LINES - 1) * console.width, overflow="ellipsis")  # words wrap into one more
            drawn = tree(name, look.status, look.observed, console.height - NOTE_LINES - 1)
            live.update(Group(drawn, note) if note else drawn, refresh=True)

        yield show


def _plain(console: Console) -> Callable[[Look], None]:
    """A function that prints a look's events, and its progress every PLAIN_SECONDS."""
    last = time.monotonic()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(look: Look) -> None:
        nonlocal last
        for event in look.events:
            # Why the run failed is printed once, at the end of `ixt run`.
            if event.reason == "AttemptFailed" or not event.warning:
                say(f"{event.reason}: {event.message}")
        if look.stopping:
            say(STOPPING)
        summary = look.status.summary
        if time.monotonic() - last >= PLAIN_SECONDS and summary.step:
            last = time.monotonic()
            text = _figures_of_summary(look) or _note(look.status, look.due)
            say(f"{summary.progress_percent}% {summary.stage}/{summary.step}  {text}".rstrip())

    return show


def _figures_of_summary(look: Look) -> str:
    """Figures of the step that the summary is about, if a child of it runs."""
    summary = look.status.summary
    steps = [step for stage in look.status.stages if stage.name == summary.stage for step in stage.steps]
    for child in look.observed.children.values():
        if child.live and child.in_stage == summary.step:
            for step in steps:
                if child.told_by(summary.stage, step.name):
                    return figures(step, child)
    return ""


def tree(
    name: str,
    status: RunStatus,
    observed: Observed | None = None,
    height: int | None = None,
    *,
    stopped: bool = False,
) -> RenderableType:
    """Stages, steps and arms with state, progress, rate and time left, in `height` lines if that can be.

    What does not fit is summed up: first each stage that is done or not begun, in a line, then each stage's
    steps that do not run. `stopped`: no process carries the run out, although the status says that it runs.
    """
    if stopped:
        status = _at_rest(status)
    shown = {stage.name for stage in status.stages}
    if height is not None and _lines(status, shown) > height:
        shown = {stage.name for stage in _active(status)}
    steps_fit = height is None or _lines(status, shown) <= height
    width = max((len(step.name) for stage in status.stages for step in stage.steps), default=0)
    children = observed.children.values() if observed else ()
    root = Tree(_head(name, status, stopped), guide_style="dim")
    for stage in status.stages:
        if stage.name not in shown:
            root.add(_stage_line(stage))
            continue
        branch = root.add(Text(stage.name, style="bold"))
        for step in stage.steps:
            if steps_fit or step.state in (StepState.RUNNING, StepState.FAILED):
                live = (child for child in children if child.live and child.told_by(stage.name, step.name))
                child = next(live, None)
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
    drawn = tree(name, status)
    return Group(drawn, Text(note, style=style)) if note else drawn


def _at_rest(status: RunStatus) -> RunStatus:
    """The status with its running steps as waiting ones."""

    def rest(step: StepStatus) -> StepStatus:
        going_on = step.state is StepState.RUNNING
        return step.model_copy(update={"state": StepState.WAITING}) if going_on else step

    stages = tuple(
        stage.model_copy(update={"steps": tuple(map(rest, stage.steps))}) for stage in status.stages
    )
    return status.model_copy(update={"stages": stages})


def _active(status: RunStatus) -> list[StageStatus]:
    """Stages in which something goes on or failed, and the first that is not complete."""
    unfinished = [
        stage for stage in status.stages if any(step.state is not StepState.COMPLETE for step in stage.steps)
    ]
    states = (StepState.RUNNING, StepState.FAILED)
    return [
        stage
        for stage in unfinished
        if stage is unfinished[0] or any(step.state in states for step in stage.steps)
    ]


def _lines(status: RunStatus, shown: set[str]) -> int:
    return 1 + sum(1 + (len(stage.steps) if stage.name in shown else 0) for stage in status.stages)


def _head(name: str, status: RunStatus, stopped: bool) -> RenderableType:
    summary, style = status.summary, "yellow" if stopped else STYLES.get(status.phase, "cyan")
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
    if status.phase in (Phase.COMPLETE, Phase.FAILED) or status.summary.eta_seconds is None:
        return elapsed
    return f"{elapsed}, {duration(status.summary.eta_seconds)} left in {status.summary.step}"


def _note(status: RunStatus, due: float | None) -> str:
    """What the run waits for, and for how long."""
    summary = status.summary
    if status.phase is not Phase.RUNNING or not summary.stage:
        return ""
    progressing = status.condition(ConditionType.PROGRESSING)
    again = due is not None and progressing and progressing.reason in (Reason.RETRYING, Reason.CLAIM_HELD)
    message = _from_here(summary.message)
    return f"in {duration(due or 0)}: {message}" if again else message


def _stage_line(stage: StageStatus) -> Text:
    states = {step.state for step in stage.steps}
    mark, style = MARKS[StepState.COMPLETE if states == {StepState.COMPLETE} else StepState.WAITING]
    return Text.assemble((f"{mark} {stage.name}", style), (f"  {len(stage.steps)} steps", "dim"))


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


def figures(step: StepStatus, child: ChildState | None) -> str:
    """Done, total, rate, time left and the last figures of a step, or why it failed, in a line."""
    message = step.message.partition("\n")[0]
    failures = failed_attempts(step)
    failed = f"{failures} failure{'s' if failures > 1 else ''}" if failures else ""
    if step.state is StepState.FAILED:
        return "  ".join(filter(None, (failed if failures > 1 else "", message)))
    parts = []
    progress = child.progress if child and step.state is StepState.RUNNING else None
    if step.total and step.unit:
        done = step.total if step.state is StepState.COMPLETE else step.done
        parts.append(f"{amount(done)}/{amount(step.total)} {step.unit}")
    if progress and progress.per_second:
        parts.append(f"{amount(progress.per_second)}/s")
        if progress.total:
            parts.append(f"{duration((progress.total - progress.done) / progress.per_second)} left")
    if failed:
        parts.append(failed)
    if progress:
        parts += [f"{name} {value:.4g}" for name, value in list(progress.metrics.items())[:3]]
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
    for stage in look.status.stages:
        for step in stage.steps:
            for child in look.observed.children.values():
                if step.state is StepState.FAILED and child.told_by(stage.name, step.name):
                    newest[child.node] = max(newest.get(child.node, child), child, key=lambda c: c.attempt)
    return [Path(process.log) for child in newest.values() for process in child.failed if process.log]


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
