"""Verbs that touch the storage start the workloads' own programs: this package knows no storage."""

import os
import subprocess
import sys
from pathlib import Path

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus, StepState
from ixt_operator.plan.nodes import REPORT
from ixt_operator.plan.spec import storage_uri


def fetch_report(run: IXTRun, status: RunStatus, workdir: Path) -> Path | None:
    """Copy the report beside the run's state; None when it is not committed yet."""
    steps = [step for stage in status.stages for step in stage.steps if step.name == REPORT]
    if not steps or steps[-1].state is not StepState.COMPLETE:
        return None
    folder = workdir / "report"
    kept = folder / steps[-1].key / "report.html"
    if not kept.exists() and _tools(
        "fetch", storage_uri(run), steps[-1].key, str(kept.parent), workdir=workdir
    ):
        return None
    return kept if kept.exists() else None


def collect_garbage(run: IXTRun, workdir: Path, older_than_days: int, delete: bool) -> int:
    """Say or delete what no run refers to; the exit code."""
    flags = ["--delete"] if delete else []
    return _tools("gc", storage_uri(run), "--older-than-days", str(older_than_days), *flags, workdir=workdir)


def _tools(*arguments: str, workdir: Path) -> int:
    env = {**os.environ}
    env.setdefault("IXT_PVC_ROOT", str((workdir / "volumes").resolve()))
    return subprocess.run(
        [sys.executable, "-m", "ixt_workloads.tools", *arguments], env=env, check=False
    ).returncode
