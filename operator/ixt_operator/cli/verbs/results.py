"""Verbs for what a run has left in its storage: its report, its models, and what nobody needs any more."""

from pathlib import Path
from typing import Annotated

import typer

from ixt_operator.adapters.local.workdir import newest_keys
from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import RunStatus
from ixt_operator.cli import artifacts, comparing, evaluating, exporting
from ixt_operator.cli.artifacts import CONCLUSION
from ixt_operator.cli.exporting import (
    ExportWhat,
    Levels,
    MostTokens,
    Prefix,
    Prompt,
    SampledLane,
    lane_and_target,
    levels_of,
)
from ixt_operator.cli.stop import FAILED, stop
from ixt_operator.cli.verbs.arguments import RunPlace, Workdir, carried_out, opened, run_again, status_of
from ixt_operator.planner.history import Entry
from ixt_workloads.contract.compared import CompareQuestion


def report(
    file: RunPlace,
    workdir: Workdir = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print its conclusion as Markdown, for a pull request.")
    ] = False,
) -> None:
    """Fetch a completed run's report and print where it is."""

    loaded, folder = opened(file, workdir)
    found = status_of(file, folder, workdir)
    path = artifacts.fetch_report(loaded, found, folder)
    if path is None:
        stop(
            f"no report yet: the run is {found.phase.value}; go on with `{run_again(file, workdir)}`", FAILED
        )
    if markdown:
        typer.echo(path.with_name(CONCLUSION).read_text(errors="replace"), nl=False)
    else:
        typer.echo(path)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Name or workdir of a run that was carried out here, its manifest, or a file with what "
            "`kubectl get ixtrun NAME -o yaml` says of a run whose report is there.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path("comparison.html"),
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, as for a pull request; write no page.")
    ] = False,
) -> None:
    """Put the lanes of several runs into one report, complete ones of runs that still go on too.

    What the runs differ in is said, and what keeps their figures from being compared: other data, other
    questions, another tokenizer. What they share is shown once. Storages are read with your own credentials.
    """
    found = comparing.compared(runs)
    text = artifacts.compare(CompareQuestion(runs=found, form="markdown" if markdown else "html"))
    if markdown:
        typer.echo(text, nl=False)
        return
    try:
        output.write_bytes(artifacts.guarded(text.encode()))
    except OSError as error:
        stop(f"{output} cannot be written: {error.strerror}")
    typer.echo(output)


def export(file: RunPlace, what: ExportWhat, prefix: Prefix = "best", workdir: Workdir = None) -> None:
    """Export a trained model: its folder, verified, with a model card.

    Unless told, it is the first lane's model of the last stage. The target must be new or empty; a repository
    of the hub is made private.
    """
    lane, target = lane_and_target(what, prefix)
    done, newest, status = _done(file, workdir)
    trained = exporting.chosen(done, newest, lane)
    artifacts.export(exporting.question(done, newest, status, trained, prefix, target))


def sample(
    file: RunPlace,
    prompt: Prompt,
    lane: SampledLane = "",
    levels: Levels = "",
    tokens: MostTokens = 128,
    workdir: Workdir = None,
) -> None:
    """Show what a trained model writes after a prompt when it is asked for different levels.

    Without a chat template the prompt is a text that is gone on with, else a question that is answered.
    """
    numbers = levels_of(levels)
    done, newest, _ = _done(file, workdir)
    trained = exporting.chosen(done, newest, lane)
    artifacts.sample(exporting.sample_question(done, trained, prompt, numbers, tokens))


def evaluate(
    file: RunPlace,
    tasks: Annotated[str, typer.Option(help=f"Tasks: {evaluating.TASKS}.")],
    lane: Annotated[str, typer.Argument(metavar="[LANE[@STAGE]]", help="As for `ixt export`.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Items of a task at most.")] = None,
    fewshot: Annotated[
        int | None, typer.Option(min=0, max=64, help="Solved examples. [default: as the task says]")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Answers to each item.")] = 1,
    workdir: Workdir = None,
) -> None:
    """Ask a trained model tasks of lm-evaluation-harness, under each prefix, without training again.

    The scores are kept: what was asked before is shown at once. `evaluate.harness` in a manifest asks all
    lanes.
    """
    harness = evaluating.harness_of(tasks, limit, fewshot, samples)
    done, newest, _ = _done(file, workdir)
    trained = exporting.chosen(done, newest, lane)
    artifacts.ask(evaluating.eval_question(done, trained, harness))


def gc(
    file: RunPlace,
    workdir: Workdir = None,
    older_than_days: Annotated[int, typer.Option(help="Keep what is younger than this.", min=0)] = 14,
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; otherwise only say what.")] = False,
) -> None:
    """Delete what no run needs any more from the manifest's storage.

    That is: artifacts that no run refers to, unfinished work that no run continues, and claims that nobody
    holds. The storage's folder runs/ says what each run refers to: delete a run's folder there to give it up.
    """

    loaded, _ = opened(file, workdir)
    artifacts.collect_garbage(loaded, older_than_days, delete)


def _done(file: Path, workdir: Path | None) -> tuple[IXTRun, dict[str, Entry], RunStatus]:
    """The run as it was carried out last, the newest key of each node, and the status. One that was never
    carried out ends the program."""
    loaded, folder = opened(file, workdir)
    status = status_of(file, folder, workdir)
    return carried_out(loaded, folder), newest_keys(folder), status
