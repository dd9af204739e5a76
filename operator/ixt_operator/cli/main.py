"""`ixt`, also `kubectl ixt`: run, check and explain Introspective X Training runs."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

DONE, RUN_FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="ixt",
    help=(
        "Introspective X Training: a judge writes feedback on training data, models train on data prefixed "
        "with it.\n\nWrite an IXTRun manifest, check it with `ixt validate`, carry it out on this machine "
        "with `ixt run`, or apply it to a cluster with kubectl."
    ),
    epilog="Exit codes: 0 done, 1 the run failed, 2 bad usage, manifest or folder, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Manifest = Annotated[Path, typer.Argument(help="YAML or JSON file with an IXTRun.", show_default=False)]
Workdir = Annotated[
    Path | None,
    typer.Option(
        "--workdir",
        "-w",
        help="Folder with the run's state and logs.  [default: .ixt/NAME]",
        show_default=False,
    ),
]
RuntimeFile = Annotated[
    Path | None,
    typer.Option(
        "--runtime", help="File with the IXTRuntime, instead of the built-in one.", show_default=False
    ),
]


@app.command()
def run(
    file: Manifest,
    workdir: Workdir = None,
    runtime: RuntimeFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, start nothing.")] = False,
) -> None:
    """Carry out a run on this machine, without a cluster.

    What is committed already is not done again: run it again after an interruption, a failure or an edit,
    and it goes on from there. Ctrl-C stops it in good order; training saves a checkpoint first.

    pvc://CLAIM/PATH means WORKDIR/volumes/CLAIM/PATH here, unless $IXT_PVC_ROOT names another folder.
    """
    from ixt_operator.cli import load
    from ixt_operator.controller import local

    loaded = load.run_of(file)
    chosen = load.runtime_of(loaded, runtime)
    folder = workdir or local.workdir_of(loaded)
    if dry_run:
        from ixt_operator.cli import explain

        explain.print_changes(loaded, folder)
        return
    from rich.console import Console

    from ixt_operator.adapters.local.errors import LocalError
    from ixt_operator.api.status import Phase
    from ixt_operator.cli import artifacts
    from ixt_operator.cli.view import failure, place, watching

    console = Console(highlight=False)
    options = {"-w": workdir, "--runtime": runtime}
    again = " ".join([f"ixt run {file}", *(f"{name} {value}" for name, value in options.items() if value)])
    os.environ.setdefault("IXT_PVC_ROOT", str((folder / "volumes").resolve()))
    try:
        with watching(console, loaded.metadata.name) as watch:
            last = asyncio.run(local.run_to_end(loaded, chosen, folder.resolve(), watch))
    except LocalError as error:
        _stop(str(error), BAD_USAGE)
    except OSError as error:
        _stop(f"{folder}: {error.strerror or error}; choose another --workdir or make room", BAD_USAGE)
    if last is None:
        _stop(f"interrupted; go on with: {again}", INTERRUPTED)
    if last.status.phase is Phase.FAILED:
        Console(stderr=True, highlight=False).print(
            failure(loaded.metadata.name, last, again), soft_wrap=True
        )
        raise typer.Exit(RUN_FAILED)
    path = artifacts.fetch_report(loaded, last.status, folder)
    if path is None:
        _stop(f"complete, but the report could not be fetched: try `ixt report {file}`", RUN_FAILED)
    console.print(f"Complete. Report: {place(path)}", soft_wrap=True)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Manifests: IXTRun or IXTRuntime.", show_default=False)],
) -> None:
    """Check manifests and name every problem with its file, line and field."""
    from ixt_operator.api.manifest import ManifestError, load

    problems = 0
    for file in files:
        try:
            for found in load(file):
                typer.echo(f"{file}: {found.kind} {found.metadata.name} is valid")
        except ManifestError as error:
            problems += len(error.problems)
            typer.echo(str(error), err=True)
    if problems:
        raise typer.Exit(BAD_USAGE)


@app.command()
def render(
    file: Manifest,
    runtime: RuntimeFile = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of the run.")] = None,
) -> None:
    """Print the Kubernetes manifests that a run would create, with example pins in place of Inventory's."""
    from ixt_operator.api.documents import dump
    from ixt_operator.cli import load
    from ixt_operator.render.preview import preview

    loaded = load.run_of(file)
    if namespace:
        metadata = loaded.metadata.model_copy(update={"namespace": namespace})
        loaded = loaded.model_copy(update={"metadata": metadata})
    for document in preview(loaded, load.runtime_of(loaded, runtime)):
        typer.echo(f"---\n{dump(document)}", nl=False)


@app.command()
def status(
    file: Manifest,
    workdir: Workdir = None,
    output: Annotated[str, typer.Option("--output", "-o", help="tree or json.")] = "tree",
) -> None:
    """Show how far a run on this machine is."""
    from ixt_operator.cli import load
    from ixt_operator.controller import local

    loaded = load.run_of(file)
    folder = workdir or local.workdir_of(loaded)
    found = local.read_status(folder)
    if found is None:
        _stop(f"{folder} has no run yet: start it with `ixt run {file}`", BAD_USAGE)
    if output == "json":
        typer.echo(found.model_dump_json(exclude_none=True, indent=2))
        return
    from rich.console import Console

    from ixt_operator.cli.view import tree

    Console().print(tree(loaded.metadata.name, found))


@app.command()
def why(
    file: Manifest,
    step: Annotated[
        str, typer.Argument(help="Step as `ixt status` names it, for example pretrain/prepare/conditioned.")
    ],
    workdir: Workdir = None,
) -> None:
    """Say which field caused a step's last re-run."""
    from ixt_operator.cli import explain, load
    from ixt_operator.controller import local

    loaded = load.run_of(file)
    try:
        explain.print_why(loaded, workdir or local.workdir_of(loaded), step)
    except explain.UnknownStepError as error:
        _stop(str(error), BAD_USAGE)


@app.command()
def diff(file: Manifest, workdir: Workdir = None) -> None:
    """Say which steps a changed manifest would run again, and which field causes it."""
    from ixt_operator.cli import explain, load
    from ixt_operator.controller import local

    loaded = load.run_of(file)
    explain.print_changes(loaded, workdir or local.workdir_of(loaded))


@app.command()
def report(
    file: Manifest,
    workdir: Workdir = None,
) -> None:
    """Fetch a completed run's report and print where it is."""
    from ixt_operator.cli import artifacts, load
    from ixt_operator.controller import local

    loaded = load.run_of(file)
    folder = workdir or local.workdir_of(loaded)
    found = local.read_status(folder)
    if found is None:
        _stop(f"{folder} has no run yet: start it with `ixt run {file}`", BAD_USAGE)
    path = artifacts.fetch_report(loaded, found, folder)
    if path is None:
        _stop(f"the run has no report yet: it is {found.phase.value}", RUN_FAILED)
    typer.echo(path)


@app.command()
def gc(
    file: Manifest,
    workdir: Workdir = None,
    older_than_days: Annotated[int, typer.Option(help="Keep what is younger than this.", min=0)] = 14,
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; otherwise only say what.")] = False,
) -> None:
    """Delete artifacts and unfinished work that no run in the manifest's storage refers to any more."""
    from ixt_operator.cli import artifacts, load
    from ixt_operator.controller import local

    loaded = load.run_of(file)
    raise typer.Exit(
        artifacts.collect_garbage(loaded, workdir or local.workdir_of(loaded), older_than_days, delete)
    )


@app.command()
def crd(
    folder: Annotated[Path | None, typer.Argument(help="Write one file each into this folder.")] = None,
) -> None:
    """Print the CustomResourceDefinitions, or write them into a folder."""
    from ixt_operator.api.crd import crds

    for name, text in crds().items():
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        else:
            typer.echo(f"---\n{text}", nl=False)


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of `ixt`."""
    app()


if __name__ == "__main__":
    main()
