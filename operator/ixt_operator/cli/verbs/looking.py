"""Verbs that look at a run on this machine: how far it is, what it says, and why."""

import signal
import time
from enum import StrEnum
from typing import Annotated

import typer

from ixt_operator.cli.verbs.arguments import LogFormat, RunPlace, Workdir

WATCH_SECONDS = 1.0
"""Between two looks of `ixt watch`."""


class Output(StrEnum):
    """How `ixt status` answers."""

    TREE = "tree"
    JSON = "json"


def status(
    file: RunPlace,
    workdir: Workdir = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="A tree for people or JSON for programs.")
    ] = Output.TREE,
) -> None:
    """Show how far a run on this machine is, and why it failed.

    JSON has the fields of an IXTRun's status (`kubectl explain ixtrun.status`).
    """
    from ixt_operator.adapters.local import workdir as local
    from ixt_operator.cli import exporting, opening

    loaded, folder = opening.opened(file, workdir)
    found = opening.status_of(file, folder, workdir)
    if output is Output.JSON:
        typer.echo(found.model_dump_json(exclude_none=True, indent=2))
        return
    from rich.console import Console

    from ixt_operator.cli.view import reason, time_spent, tree

    console = Console(highlight=False)
    console.print(tree(loaded.metadata.name, found), *time_spent(found), sep="\n")
    for told in exporting.places(opening.carried_out(loaded, folder), local.newest_keys(folder), found):
        console.print(told, soft_wrap=True)
    console.print(reason(found, folder / "logs"), soft_wrap=True, end="")


def watch(file: RunPlace, workdir: Workdir = None) -> None:
    """Look on while another process carries a run out: a live tree with curves of loss, until it ends.

    Where there is no terminal, a line is printed for each step that begins or ends, and now and then one that
    says how far it is.
    """
    from rich.console import Console

    from ixt_operator.adapters.local.loop import Look
    from ixt_operator.api.status import Phase
    from ixt_operator.cli import opening
    from ixt_operator.cli.stop import FAILED, INTERRUPTED, stop
    from ixt_operator.cli.view import watching

    loaded, folder = opening.opened(file, workdir)
    before = opening.status_of(file, folder, workdir)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the terminal is left as it was
    try:
        with watching(Console(highlight=False), loaded.metadata.name, folder) as drawn:
            while True:
                found = opening.status_of(file, folder, workdir)
                drawn(Look.of_statuses(before, found))
                if found.phase not in (Phase.PENDING, Phase.RUNNING):
                    break
                before = found
                time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if found.phase is Phase.SUSPENDED:
        stop(f"stopped; go on with: {opening.run_again(file, workdir)}", FAILED)
    raise typer.Exit(FAILED if found.phase is Phase.FAILED else 0)


def logs(
    file: RunPlace,
    step: Annotated[
        str | None, typer.Argument(help="Step as `ixt status` names it, such as train/conditioned.")
    ] = None,
    workdir: Workdir = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[
        int, typer.Option(min=-1, help="Lines from the end of each log; -1: its last 16 MiB.")
    ] = -1,
    output: Annotated[
        LogFormat, typer.Option("--output", "-o", help="text: for people; json: as the steps wrote them.")
    ] = LogFormat.TEXT,
) -> None:
    """Print the logs of a step, or of all steps that run, each line with its step in front.

    Of a step that was tried again, the newest attempt's. A training's log has a line of JSON for each point
    of its curve: `ixt logs run.yaml train/conditioned -o json | grep '"point"'`.
    """
    from ixt_operator.cli import opening, printing

    _, folder = opening.opened(file, workdir)
    found = opening.status_of(file, folder, workdir)
    printing.print_logs(folder, found, step, tail=tail, follow=follow, raw=output is LogFormat.JSON)


def why(
    file: RunPlace,
    step: Annotated[
        str,
        typer.Argument(
            help="Step as `ixt status` names it, such as train/conditioned or pretrain/train/conditioned."
        ),
    ],
    workdir: Workdir = None,
) -> None:
    """Say why a step's last attempt failed, and which field caused its last re-run.

    A step runs again when its key changes, because one of its fields, the content that it reads or a step
    before it changed. The field that changed first is named, with the step that it belongs to.
    """
    from ixt_operator.adapters.local import workdir as local
    from ixt_operator.cli import explain, opening

    loaded, folder = opening.opened(file, workdir)
    run, status = opening.carried_out(loaded, folder), local.status_in(folder)
    explain.print_why(run, local.keys_in(folder), status, step, "this workdir")


def diff(file: RunPlace, workdir: Workdir = None) -> None:
    """Say which steps a manifest would run, and which changed field causes it.

    The manifest is compared with the run as it was last carried out in the workdir, and with the storage.
    """
    from ixt_operator.cli import explain, opening

    explain.print_changes(*opening.opened(file, workdir))
