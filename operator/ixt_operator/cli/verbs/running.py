"""`ixt run`: carry a run out on this machine."""

import errno
from pathlib import Path
from typing import Annotated

import typer

from ixt_operator.cli.stop import FAILED, INTERRUPTED, stop
from ixt_operator.cli.verbs.arguments import RunPlace, RuntimeFile, Settings, Workdir


def run(
    file: RunPlace,
    workdir: Workdir = None,
    runtime: RuntimeFile = None,
    settings: Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, as `ixt diff` does; start nothing.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Serve the series that the operator has of a run, at 127.0.0.1:PORT/metrics.",
        ),
    ] = None,
) -> None:
    """Carry out a run on this machine, without a cluster.

    What is committed already is not done again: after an interruption, a failure or an edit, the same command
    goes on from there. Ctrl-C stops the run; training saves a checkpoint first.

    Runs of one manifest with other settings need names of their own, by which they have workdirs of their
    own: `--set metadata.name=small --set stages.pretrain.train.maxTokens=500000`. What they have in common is
    made once.

    pvc://CLAIM/PATH means WORKDIR/volumes/CLAIM/PATH here, unless $IXT_PVC_ROOT names another folder.
    """
    from ixt_operator.adapters.local import workdir as local
    from ixt_operator.adapters.local.workdir import LocalError
    from ixt_operator.api.status import Phase
    from ixt_operator.cli import artifacts, explain, load, opening

    loaded, folder = opening.opened(file, workdir, settings or ())
    chosen = load.runtime_of(loaded, runtime)
    if dry_run:
        explain.print_changes(loaded, folder)
        return
    import asyncio

    from rich.console import Console

    from ixt_operator.adapters.local import loop
    from ixt_operator.cli.scraped import scraped
    from ixt_operator.cli.view import failure, place, watching

    console = Console(highlight=False)
    again = opening.run_again(file, workdir, runtime, settings or ())
    if local.status_in(folder) is None:
        if reason := artifacts.does_not_fit_here(loaded):
            stop(reason, FAILED)
        if slow := load.slow_here(loaded):
            typer.echo(slow, err=True)
    try:
        with (
            watching(console, loaded.metadata.name, folder) as drawn,
            scraped(loaded, metrics_port) as scrape,
        ):

            def show(look: loop.Look) -> None:
                scrape(look)
                drawn(look)

            last = asyncio.run(loop.run_to_end(loaded, chosen, folder.resolve(), show))
    except LocalError as error:
        stop(str(error))
    except OSError as error:
        what = place(Path(error.filename or folder))
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = f"make room, then go on with: {again}" if full else "choose another --workdir"
        stop(f"{what}: {error.strerror or error}; {mend}", FAILED)
    if last is None:
        stop(f"interrupted; go on with: {again}", INTERRUPTED)
    if last.status.phase is Phase.FAILED:
        told = failure(loaded.metadata.name, last, again)
        Console(stderr=True, highlight=False).print(told, soft_wrap=True)
        raise typer.Exit(FAILED)
    try:
        path = artifacts.fetch_report(local.identified(loaded, folder), last.status, folder)
    except typer.Exit:
        stop(f"complete, but the report could not be fetched: go on with: {again}", FAILED)
    assert path is not None
    console.print(f"Complete. Report: {place(path)}", soft_wrap=True)
