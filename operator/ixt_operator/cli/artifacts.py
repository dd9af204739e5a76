"""What verbs do with storages and models, by a program of the workloads: this package knows neither.

When that program fails it has said why on stderr, and the verb ends with exit code 1 (typer.Exit).
"""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import typer

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus, StepState
from ixt_operator.cli.stop import FAILED
from ixt_operator.planner.nodes import stage_nodes
from ixt_operator.planner.spec import storage_uri
from ixt_workloads.contract.compared import CompareQuestion
from ixt_workloads.contract.exported import EvalQuestion, ExportQuestion, SampleQuestion
from ixt_workloads.contract.graph import DOES_NOT_FIT, PlanQuestion
from ixt_workloads.contract.looked import Looked, LookQuestion
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS

TOOLS = (sys.executable, "-m", "ixt_workloads.tools")
"""The program of the workloads."""
PAGE, CONCLUSION = "report.html", "report.md"
MAX_PAGE_BYTES = 64 * 2**20
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"


def report_key(status: RunStatus) -> str | None:
    """Key of a run's report; None until it is committed."""
    for _, step in status.steps:
        if step.kind == "Report" and step.state is StepState.COMPLETE:
            return step.key
    return None


def fetch_report(run: IXTRun, status: RunStatus, workdir: Path) -> Path | None:
    """Copy the report into the workdir; None when it is not committed yet."""
    key = report_key(status)
    if key is None:
        return None
    page = workdir / "report" / key / PAGE
    if not page.exists():
        _tools("fetch", storage_uri(run), key, str(page.parent))
        page.write_bytes(guarded(page.read_bytes()))
    return page


def committed_keys(run: IXTRun, keys: Collection[str]) -> set[str]:
    """Those of the keys that the storage has."""
    if not keys:
        return set()
    told = _tools("committed", storage_uri(run), *sorted(keys), stdout=subprocess.PIPE)
    return set(told.split())


def collect_garbage(run: IXTRun, older_than_days: int, delete: bool) -> None:
    """Delete, or only list, what no run refers to, and print it."""
    flags = ["--delete"] if delete else []
    _tools("gc", storage_uri(run), "--older-than-days", str(older_than_days), *flags)


def looked_at(question: LookQuestion) -> Looked:
    """What data and models for a first manifest look like."""
    return Looked.model_validate_json(
        _tools("look", stdout=subprocess.PIPE, question=question.model_dump_json())
    )


def export(question: ExportQuestion) -> None:
    """Export a model, and print where it is."""
    _tools("export", question=question.model_dump_json())


def compare(question: CompareQuestion) -> str:
    """The report of several runs, as HTML or Markdown."""
    return _tools("compare", stdout=subprocess.PIPE, question=question.model_dump_json())


def sample(question: SampleQuestion) -> None:
    """Print what a model writes."""
    _tools("sample", question=question.model_dump_json())


def ask(question: EvalQuestion) -> None:
    """Print what a model scores on tasks of the harness."""
    _tools("eval", question=question.model_dump_json())


def print_plan(run: IXTRun, **asked: Any) -> None:
    """Print what a run costs and takes, with the fields of a PlanQuestion given."""
    _tools("plan", question=_question(run, **asked))


def plan_was_printed(run: IXTRun) -> bool:
    """Print the plan; False, with the reason on stderr, for one that cannot be carried out."""
    try:
        print_plan(run)
    except typer.Exit:
        return False
    return True


def model_is_here(run: IXTRun) -> bool:
    """Whether the folders of a run's model, and of its judge if it has one, are on this machine."""
    model, judge = run.spec.model, run.spec.judge
    places = [model.source or model.config, judge.model if judge else None]
    paths = [urlsplit(place) for place in places if place]
    return all(
        place.scheme == "file" and Path(unquote(place.path), "config.json").is_file() for place in paths
    )


def does_not_fit_here(run: IXTRun) -> str:
    """Why this machine cannot hold a run's training; empty when it can, or nobody can tell yet."""
    if not model_is_here(run):
        return ""
    question = _question(run, here=True)
    done = subprocess.run([*TOOLS, "plan"], input=question, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode == DOES_NOT_FIT else ""


def _question(run: IXTRun, **asked: Any) -> str:
    if run.rubric_reference:
        run = run.with_rubric(BUILTIN_RUBRICS["quality"])  # which of them hardly matters for the cost
    stages = tuple(stage_nodes(run, position) for position in range(len(run.spec.stages)))
    return PlanQuestion(stages=stages, **asked).model_dump_json()


def _tools(*arguments: str, stdout: int | None = None, question: str | None = None) -> str:
    done = subprocess.run([*TOOLS, *arguments], input=question, stdout=stdout, text=True, check=False)
    if done.returncode:
        raise typer.Exit(FAILED)
    return done.stdout or ""


def guarded(page: bytes) -> bytes:
    """A report behind a policy that its own text cannot weaken: policies of a page add up, and this one
    stands before all that the storage holds. Nothing is run or loaded, no form is sent."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return f"<!doctype html>{policy}\n".encode() + page
