"""Verbs that need a manifest alone: write one, check it, tell what it costs, print what it becomes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ixt_operator.cli.stop import stop
from ixt_operator.cli.verbs.arguments import ManifestFile, RuntimeFile, Settings


def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("run.yaml"),
    data: Annotated[str | None, typer.Option(help="File or folder with data, or a URI.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder of the model, owner/name of the hub, or a URI.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Judge that writes the feedback; as for --model.")] = None,
    scores: Annotated[
        str | None, typer.Option(help="Field of the data with scores, instead of a judge.")
    ] = None,
) -> None:
    """Write a first manifest, from three answers and a look at the data and the model.

    What no option says is asked for on a terminal. Sequence length, batch and tokens are such that they fit
    the model and the data; the plan is printed.
    """
    if judge and scores:
        stop("say --judge or --scores, not both")
    asks = sys.stdin.isatty()
    missing = [name for name, value in (("--data", data), ("--model", model)) if not value]
    missing += [] if judge or scores else ["--judge or --scores"]
    if missing and not asks:
        stop(f"nobody can be asked here: say {', '.join(missing)}")
    data = data or typer.prompt("Data (file, folder, or URI)")
    model = model or typer.prompt("Model to train (folder, or owner/name of the Hugging Face hub)")
    if not judge and not scores:
        answer = typer.prompt("Judge (folder or owner/name), or the data's field of scores as =FIELD")
        judge, scores = (None, answer[1:]) if answer.startswith("=") else (answer, None)
    from ixt_operator.cli import artifacts, first, load

    first.write_manifest(file, first.Wishes(data, model, judge, scores))
    typer.echo(f"wrote {file}; next: ixt validate {file}, then ixt run {file}")
    loaded = load.run_of(file)
    if artifacts.model_is_here(loaded):
        artifacts.print_plan(loaded)


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files with IXTRuns and IXTRuntimes; - is standard input."),
    ],
    settings: Settings = None,
) -> None:
    """Check manifests and name every problem with its file, line and field.

    What they name by a path from themselves must be there; all else the run's Inventory looks for. Where a
    run's model lies on this machine, its plan is printed (`ixt plan`), and what cannot fit is a problem.
    """
    from ixt_operator.api.run import IXTRun
    from ixt_operator.cli import artifacts
    from ixt_operator.manifests import loading
    from ixt_operator.manifests.problems import ManifestError, Problem

    problems = 0

    def warn(warning: Problem) -> None:
        typer.echo(str(warning), err=True)

    for file in files:
        try:
            for found in loading.load(file, warn, here=True, settings=settings or ()):
                typer.echo(f"{file}: {found.kind} {found.metadata.name} is valid")
                if isinstance(found, IXTRun) and artifacts.model_is_here(found):
                    problems += not artifacts.plan_was_printed(found)
        except ManifestError as error:
            problems += len(error.problems)
            typer.echo(str(error), err=True)
    if problems:
        stop(f"{problems} problem{'s' if problems > 1 else ''}")


def plan(
    file: ManifestFile,
    settings: Settings = None,
    gpu: Annotated[
        str | None, typer.Option(help="GPUs that train and judge, such as H100, H200 or MI300X.")
    ] = None,
    document_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a document, on average.")] = 1000,
    answer_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of the judge's reasoning and feedback on a document.")
    ] = 500,
) -> None:
    """Tell what a run costs and takes, before anything runs.

    That is: parameters, memory of a rank by kind, steps, FLOPs and GPU-hours of annotation and training by
    arm, and r, the cost of annotating a document beside training on it. Of models only config.json is read,
    of data nothing: what is assumed is printed. What cannot fit is refused, with what to do.
    """
    from ixt_operator.cli import artifacts, load

    artifacts.print_plan(
        load.run_of(file, settings or ()),
        gpu=gpu,
        document_tokens=document_tokens,
        answer_tokens=answer_tokens,
    )


def render(
    file: ManifestFile,
    runtime: RuntimeFile = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of the run.")] = None,
    settings: Settings = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Print the run itself, with what it extends and what is set.")
    ] = False,
) -> None:
    """Print the Kubernetes manifests that a run would create, or with --merged the run's own.

    The run itself is what kubectl takes: `ixt render run.yaml --merged --set metadata.name=small | kubectl
    apply -f -`. In what it would create, example pins stand in place of what Inventory finds, and an example
    in place of a rubric that lies in a ConfigMap: names and keys differ from those of a real run.
    """
    from ixt_operator.cli import load
    from ixt_operator.manifests.documents import dump
    from ixt_operator.render.preview import preview

    given = [*(settings or ()), *([f"metadata.namespace={namespace}"] if namespace else [])]
    if merged:
        shown = [load.merged_run_of(file, given)]
    else:
        loaded = load.run_of(file, given)
        shown = preview(loaded, load.runtime_of(loaded, runtime))
    for document in shown:
        typer.echo(f"---\n{dump(document)}", nl=False)


def crd(
    folder: Annotated[Path | None, typer.Argument(help="Write one file each into this folder.")] = None,
) -> None:
    """Print the CustomResourceDefinitions, or write them into a folder."""
    from ixt_operator.generate.crd import crds

    for name, text in crds().items():
        if folder:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
            except OSError as error:
                stop(f"{folder / name} cannot be written: {error.strerror}")
        else:
            typer.echo(f"---\n{text}", nl=False)
