"""How far a run is, while a notebook or a program waits for it."""

import html
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from ixt_operator.adapters.local.loop import Look
from ixt_operator.api.status import RunStatus
from ixt_operator.cli.view import tree_and_note, watching

WIDTH = 100
"""Characters of a line in a notebook."""


@contextmanager
def shown(name: str, workdir: Path) -> Iterator[Callable[[RunStatus], None]]:
    """A function to show each status with: in a notebook one output that changes in place, else as
    `ixt watch` does."""
    if (display := _display()) is not None:
        yield _in_place(name, display)
        return
    before = RunStatus()
    with watching(Console(highlight=False), name, workdir) as drawn:

        def show(found: RunStatus) -> None:
            nonlocal before
            drawn(Look.of_statuses(before, found))
            before = found

        yield show


def _display() -> Callable[..., Any] | None:
    """IPython's display, in the kernel of a notebook."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return None
    shell = get_ipython()
    found: Callable[..., Any] | None = display if getattr(shell, "kernel", None) else None
    return found


def _in_place(name: str, display: Callable[..., Any]) -> Callable[[RunStatus], None]:
    handle: Any = None
    last = ""

    def show(found: RunStatus) -> None:
        nonlocal handle, last
        told = io.StringIO()
        # Text alone: in a notebook rich would show it itself, once more at each print.
        console = Console(file=told, width=WIDTH, no_color=True, force_jupyter=False, force_terminal=False)
        console.print(tree_and_note(name, found))
        if (text := told.getvalue()) == last:
            return
        last = text
        bundle = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
        if handle is None:
            handle = display(bundle, raw=True, display_id=True)
        else:
            handle.update(bundle, raw=True)

    return show
