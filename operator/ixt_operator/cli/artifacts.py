"""What verbs do in the storage, by a program of the workloads: this package knows no storage.

When that program fails it has said why on stderr, and the verb ends with exit code 1 (typer.Exit).
"""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import typer

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus, StepState
from ixt_operator.cli.stop import FAILED
from ixt_operator.planner.spec import storage_uri

PAGE = "report.html"


def report_key(status: RunStatus) -> str | None:
    """Key of a run's report; None until it is committed."""
    steps = (step for stage in status.stages for step in stage.steps)
    found = (step.key for step in steps if step.kind == "Report" and step.state is StepState.COMPLETE)
    return next(found, None)


def fetch_report(run: IXTRun, status: RunStatus, workdir: Path) -> Path | None:
    """Copy the report into the workdir; None when it is not committed yet."""
    key = report_key(status)
    if key is None:
        return None
    page = workdir / "report" / key / PAGE
    if not page.exists():
        _tools("fetch", storage_uri(run), key, str(page.parent))
    return page


def committed_keys(run: IXTRun, keys: Collection[str]) -> set[str]:
    """Those of the keys that the storage has."""
    if not keys:
        return set()
    return set(_tools("committed", storage_uri(run), *sorted(keys), stdout=subprocess.PIPE).split())


def collect_garbage(run: IXTRun, older_than_days: int, delete: bool) -> None:
    """Delete, or only list, what no run refers to, and print it."""
    flags = ["--delete"] if delete else []
    _tools("gc", storage_uri(run), "--older-than-days", str(older_than_days), *flags)


def _tools(*arguments: str, stdout: int | None = None) -> str:
    command = [sys.executable, "-m", "ixt_workloads.tools", *arguments]
    done = subprocess.run(command, stdout=stdout, text=True, check=False)
    if done.returncode:
        raise typer.Exit(FAILED)
    return done.stdout or ""
