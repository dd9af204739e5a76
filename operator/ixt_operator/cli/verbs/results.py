"""Verbs for what a run has left in its storage: its report, its models, and what nobody needs any more."""

from pathlib import Path
from typing import Annotated

import typer

from ixt_operator.cli.stop import FAILED, stop
from ixt_operator.cli.verbs.arguments import (
    ExportWhat,
    Fewshot,
    Lane,
    Levels,
    Limit,
    MostTokens,
    Prefix,
    Prompt,
    RunPlace,
    Samples,
    Tasks,
    Workdir,
)


def report(
    file: RunPlace,
    workdir: Workdir = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print its conclusion as Markdown, for a pull request.")
    ] = False,
) -> None:
    """Fetch a completed run's report and print where it is."""
    from ixt_operator.cli import artifacts, opening

    loaded, folder = opening.opened(file, workdir)
    found = opening.status_of(file, folder, workdir)
    path = artifacts.fetch_report(loaded, found, folder)
    if path is None:
        again = opening.run_again(file, workdir)
        stop(f"no report yet: the run is {found.phase.value}; go on with `{again}`", FAILED)
    if markdown:
        typer.echo(path.with_name(artifacts.CONCLUSION).read_text(errors="replace"), nl=False)
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
    from ixt_operator.cli import artifacts, comparing
    from ixt_workloads.contract.compared import CompareQuestion

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
    from ixt_operator.cli import artifacts, exporting, opening

    lane, target = exporting.lane_and_target(what, prefix)
    done, newest, status = opening.done(file, workdir)
    trained = exporting.chosen(done, newest, lane)
    artifacts.export(exporting.question(done, newest, status, trained, prefix, target))


def sample(
    file: RunPlace,
    prompt: Prompt,
    lane: Lane = "",
    levels: Levels = "",
    tokens: MostTokens = 128,
    workdir: Workdir = None,
) -> None:
    """Show what a trained model writes after a prompt when it is asked for different levels.

    Without a chat template the prompt is a text that is gone on with, else a question that is answered.
    """
    from ixt_operator.cli import artifacts, exporting, opening

    numbers = exporting.levels_of(levels)
    done, newest, _ = opening.done(file, workdir)
    trained = exporting.chosen(done, newest, lane)
    artifacts.sample(exporting.sample_question(done, trained, prompt, numbers, tokens))


def evaluate(
    file: RunPlace,
    tasks: Tasks,
    lane: Lane = "",
    limit: Limit = None,
    fewshot: Fewshot = None,
    samples: Samples = 1,
    workdir: Workdir = None,
) -> None:
    """Ask a trained model tasks of lm-evaluation-harness, under each prefix, without training again.

    The scores are kept: what was asked before is shown at once. `evaluate.harness` in a manifest asks all
    lanes.
    """
    from ixt_operator.cli import artifacts, evaluating, exporting, opening

    harness = evaluating.harness_of(tasks, limit, fewshot, samples)
    done, newest, _ = opening.done(file, workdir)
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
    from ixt_operator.cli import artifacts, opening

    loaded, _ = opening.opened(file, workdir)
    artifacts.collect_garbage(loaded, older_than_days, delete)
