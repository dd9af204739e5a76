"""Verbs that touch the storage start the workloads' own programs: this package knows no storage."""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus, StepState
from ixt_operator.planner.nodes import REPORT
from ixt_operator.planner.spec import storage_uri

PAGE = "report.html"


class StorageError(Exception):
    """The storage could not be used; the program that tried has said why on stderr."""


def fetch_report(run: IXTRun, status: RunStatus, workdir: Path) -> Path | None:
    """Copy the report beside the run's state; None when it is not committed yet. Raises StorageError."""
    steps = [step for stage in status.stages for step in stage.steps if step.name == REPORT]
    if not steps or steps[-1].state is not StepState.COMPLETE:
        return None
    page = workdir / "report" / steps[-1].key / PAGE
    if not page.exists():
        _tools("fetch", storage_uri(run), steps[-1].key, str(page.parent))
    return page


def committed_keys(run: IXTRun, keys: Collection[str]) -> set[str]:
    """Those of the keys that the storage has. Raises StorageError."""
    if not keys:
        return set()
    return set(_tools("committed", storage_uri(run), *sorted(keys), stdout=subprocess.PIPE).split())


def collect_garbage(run: IXTRun, older_than_days: int, delete: bool) -> None:
    """Delete, or only list, what no run refers to, and print it. Raises StorageError."""
    flags = ["--delete"] if delete else []
    _tools("gc", storage_uri(run), "--older-than-days", str(older_than_days), *flags)


def _tools(*arguments: str, stdout: int | None = None) -> str:
    command = [sys.executable, "-m", "ixt_workloads.tools", *arguments]
    done = subprocess.run(command, stdout=stdout, text=True, check=False)
    if done.returncode:
        raise StorageError
    return done.stdout or ""
