"""How a verb ends before its end: its exit codes, and a message on stderr."""

from typing import NoReturn

import typer

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130


def stop(message: str, code: int = BAD_USAGE) -> NoReturn:
    """End the program with a message and an exit code."""
    from ixt_workloads.contract.foreign import plain  # help needs no pydantic

    typer.echo(plain(message), err=True)
    raise typer.Exit(code)
