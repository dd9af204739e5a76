"""A run on a terminal: a live tree, or plain lines where there is none."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ixt_operator.api.status import RunStatus, StepState, StepStatus
from ixt_operator.controller.local import Look
from ixt_operator.plan.observed import ChildState, Observed
from ixt_operator.plan.status import duration, progress_of, step_covers
from ixt_operator.plan.survey import running

MARKS = {
    StepState.WAITING: ("·", "dim"),
    StepState.RUNNING: ("▶", "cyan"),
    StepState.COMPLETE: ("✔", "green"),
    StepState.FAILED: ("✘", "red"),
}
PLAIN_SECONDS = 15.0
"""Between two lines of progress where there is no terminal."""


@contextmanager
def watching(console: Console, name: str) -> Iterator[Callable[[Look], None]]:
    """A function to show each look with: as a live tree on a terminal, else as lines."""
    if not console.is_terminal:
        yield _plain(console)
        return
    # The tree is redrawn only when there is something new: reading progress takes the time, not drawing.
    with Live(console=console, auto_refresh=False, transient=False) as live:

        def show(look: Look) -> None:
            for event in look.events:
                if event.warning:
                    live.console.print(Text(f"{event.reason}: {event.message}", style="yellow"))
            live.update(tree(name, look.status, look.observed), refresh=True)

        yield show


def _plain(console: Console) -> Callable[[Look], None]:
    last = 0.0

    def show(look: Look) -> None:
        nonlocal last
        for event in look.events:
            console.print(f"{event.reason}: {event.message}", markup=False, highlight=False, soft_wrap=True)
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS and look.status.summary.step:
            last = now
            summary = look.status.summary
            child = _live(look.observed, summary.stage, summary.step)
            step = _find(look.status, summary.stage, summary.step)
            text = f"{summary.stage}/{summary.step}: {figures(step, child)}" if step else summary.message
            console.print(
                f"{summary.progress_percent}% {text}", markup=False, highlight=False, soft_wrap=True
            )

    return show


def tree(name: str, status: RunStatus, observed: Observed | None = None) -> RenderableType:
    """Stages, steps and arms with state, progress, rate and time left."""
    summary = status.summary
    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(name, style="bold"),
        ProgressBar(total=100, completed=summary.progress_percent, width=24),
        Text(f"{summary.progress_percent}%"),
        Text(status.phase.value),
        Text(f"{summary.eta} left in this step" if summary.eta else "", style="dim"),
    )
    root = Tree(head, guide_style="dim")
    for stage in status.stages:
        branch = root.add(Text(stage.name, style="bold"))
        for step in stage.steps:
            mark, style = MARKS[step.state]
            child = _live(observed, stage.name, step.name) if observed else None
            line = Table.grid(padding=(0, 1))
            line.add_column(width=1)
            line.add_column(width=26)
            line.add_column()
            line.add_row(Text(mark, style=style), Text(step.name, style=style), Text(figures(step, child)))
            branch.add(line)
    rows: list[RenderableType] = [root]
    if summary.message and summary.stage:
        rows.append(Text(summary.message, style="dim"))
    return Group(*rows)


def figures(step: StepStatus, child: ChildState | None) -> str:
    """Done, total, rate, time left and the last figures of a step, in a line."""
    parts = []
    if step.total and step.unit:
        parts.append(f"{amount(step.done)}/{amount(step.total)} {step.unit}")
    progress = progress_of(child)
    if progress and progress.per_second and step.state is StepState.RUNNING:
        parts.append(f"{amount(progress.per_second)}/s")
        if progress.total:
            parts.append(f"{duration((progress.total - progress.done) / progress.per_second)} left")
    if step.state is StepState.RUNNING and progress:
        parts += [f"{name} {value:.4g}" for name, value in list(progress.metrics.items())[:3]]
    if step.cached:
        parts.append("cached")
    failures = sum(step.attempts_by_fault.values())
    if failures:
        parts.append(f"{failures} failed attempt{'s' if failures > 1 else ''}")
    if step.message and not parts:
        parts.append(step.message)
    return "  ".join(parts)


def amount(number: float) -> str:
    """A count as people read it: 950, 12.3k, 4.1M, 2.0B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}"


def _find(status: RunStatus, stage: str, node: str) -> StepStatus | None:
    for entry in status.stages:
        for step in entry.steps:
            if entry.name == stage and step_covers(stage, step.name, f"{stage}/{node}"):
                return step
    return None


def _live(observed: Observed, stage: str, step: str) -> ChildState | None:
    for child in observed.children.values():
        if running(child) and (step_covers(stage, step, child.node) or child.node == f"{stage}/{step}"):
            return child
    return None
