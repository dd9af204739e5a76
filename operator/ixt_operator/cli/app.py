"""The verbs of `ixt`: run, check and explain Introspective X Training runs."""

import asyncio
import errno
import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import Phase, RunStatus
from ixt_operator.cli.stop import FAILED, INTERRUPTED, stop

app = typer.Typer(
    name="ixt",
    help=(
        "Introspective X Training: a judge writes feedback on training data, models train on data prefixed "
        "with it.\n\nWrite an IXTRun manifest, check it with `ixt validate`, carry it out on this machine "
        "with `ixt run`, or apply it to a cluster with kubectl."
    ),
    epilog=(
        "Exit codes: 0 done, 1 the run failed, or storage or workdir cannot be used, 2 bad usage or "
        "manifest, 130 interrupted."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ManifestFile = Annotated[Path, typer.Argument(help="YAML or JSON file with an IXTRun.", show_default=False)]
Workdir = Annotated[
    Path | None,
    typer.Option(
        "--workdir",
        "-w",
        help="Folder with the run's state and logs. [default: .ixt/NAME]",
        show_default=False,
    ),
]
RuntimeFile = Annotated[
    Path | None,
    typer.Option(
        "--runtime", help="File with the IXTRuntime, instead of the built-in one.", show_default=False
    ),
]


class Output(StrEnum):
    """How `ixt status` answers."""

    TREE = "tree"
    JSON = "json"


@app.command(epilog="Example: `ixt run examples/quickstart/run.yaml --workdir .ixt/quickstart`")
def run(
    file: ManifestFile,
    workdir: Workdir = None,
    runtime: RuntimeFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, as `ixt diff` does; start nothing.")
    ] = False,
) -> None:
    """Carry out a run on this machine, without a cluster.

    What is committed already is not done again: after an interruption, a failure or an edit, the same command
    goes on from there. Ctrl-C stops the run; training saves a checkpoint first.

    pvc://CLAIM/PATH means WORKDIR/volumes/CLAIM/PATH here, unless $IXT_PVC_ROOT names another folder.
    """
    from ixt_operator.cli import load

    loaded, folder = _open(file, workdir)
    chosen = load.runtime_of(loaded, runtime)
    if dry_run:
        _print_changes(loaded, folder)
        return
    from rich.console import Console

    from ixt_operator.adapters.local import loop
    from ixt_operator.adapters.local.errors import LocalError
    from ixt_operator.adapters.local.workdir import identified
    from ixt_operator.cli import artifacts
    from ixt_operator.cli.view import failure, place, watching

    console = Console(highlight=False)
    again = _run(file, workdir, runtime)
    try:
        with watching(console, loaded.metadata.name) as watch:
            last = asyncio.run(loop.run_to_end(loaded, chosen, folder.resolve(), watch))
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
        path = artifacts.fetch_report(identified(loaded, folder), last.status, folder)
    except typer.Exit:
        stop(f"complete, but the report could not be fetched: go on with: {again}", FAILED)
    assert path is not None
    console.print(f"Complete. Report: {place(path)}", soft_wrap=True)


@app.command(epilog="Example: `ixt validate run.yaml runtime.yaml`")
def validate(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files with IXTRuns and IXTRuntimes; - is standard input.", show_default=False),
    ],
) -> None:
    """Check manifests and name every problem with its file, line and field.

    Only the manifests are read. Whether data and models are there is checked by the run's Inventory.
    """
    from ixt_operator.manifests.loading import ManifestError, load

    problems = 0
    for file in files:
        try:
            for found in load(file, lambda warning: typer.echo(str(warning), err=True)):
                typer.echo(f"{file}: {found.kind} {found.metadata.name} is valid")
        except ManifestError as error:
            problems += len(error.problems)
            typer.echo(str(error), err=True)
    if problems:
        stop(f"{problems} problem{'s' if problems > 1 else ''}")


@app.command(epilog="Example: `ixt render run.yaml -n team-a | kubectl diff -f -`")
def render(
    file: ManifestFile,
    runtime: RuntimeFile = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of the run.")] = None,
) -> None:
    """Print the Kubernetes manifests that a run would create.

    Example pins stand in place of what Inventory finds, and an example in place of a rubric that lies in a
    ConfigMap, so names and keys differ from those of a real run.
    """
    from ixt_operator.cli import load
    from ixt_operator.manifests.documents import dump
    from ixt_operator.render.preview import preview

    loaded = load.run_of(file)
    if namespace:
        metadata = loaded.metadata.model_copy(update={"namespace": namespace})
        loaded = loaded.model_copy(update={"metadata": metadata})
    for document in preview(loaded, load.runtime_of(loaded, runtime)):
        typer.echo(f"---\n{dump(document)}", nl=False)


@app.command(epilog="Example: `ixt status run.yaml -o json | jq .phase`")
def status(
    file: ManifestFile,
    workdir: Workdir = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="A tree for people or JSON for programs.")
    ] = Output.TREE,
) -> None:
    """Show how far a run on this machine is, and why it failed.

    JSON has the fields of an IXTRun's status (`kubectl explain ixtrun.status`).
    """
    from ixt_operator.adapters.local.workdir import in_use

    loaded, folder = _open(file, workdir)
    found = _status_of(file, folder, workdir)
    if output is Output.JSON:
        typer.echo(found.model_dump_json(exclude_none=True, indent=2))
        return
    from rich.console import Console

    from ixt_operator.cli.view import reason, tree

    ended = found.phase in (Phase.COMPLETE, Phase.FAILED)
    stopped = not ended and not in_use(folder)
    console = Console(highlight=False)
    console.print(tree(loaded.metadata.name, found, stopped=stopped))
    console.print(reason(found, folder / "logs"), soft_wrap=True, end="")


@app.command(epilog="Example: `ixt why run.yaml train/conditioned`")
def why(
    file: ManifestFile,
    step: Annotated[
        str,
        typer.Argument(
            help="Step as `ixt status` names it, such as train/conditioned or pretrain/train/conditioned.",
            show_default=False,
        ),
    ],
    workdir: Workdir = None,
) -> None:
    """Say which field caused a step's last re-run.

    A step runs again when its key changes, because one of its fields, the content that it reads or a step
    before it changed. The field that changed first is named, with the step that it belongs to.
    """
    from ixt_operator.adapters.local.workdir import keys_in, read_run
    from ixt_operator.cli import explain

    loaded, folder = _open(file, workdir)
    explain.print_why(read_run(folder) or loaded, keys_in(folder), step, "this workdir")


@app.command(epilog="Example: `ixt diff run.yaml` after an edit of it")
def diff(file: ManifestFile, workdir: Workdir = None) -> None:
    """Say which steps a manifest would run, and which changed field causes it.

    The manifest is compared with the run as it was last carried out in the workdir, and with the storage.
    """
    _print_changes(*_open(file, workdir))


@app.command(epilog="Example: `xdg-open $(ixt report run.yaml)`")
def report(file: ManifestFile, workdir: Workdir = None) -> None:
    """Fetch a completed run's report and print where it is."""
    from ixt_operator.cli import artifacts

    loaded, folder = _open(file, workdir)
    found = _status_of(file, folder, workdir)
    path = artifacts.fetch_report(loaded, found, folder)
    if path is None:
        stop(f"no report yet: the run is {found.phase.value}; go on with `{_run(file, workdir)}`", FAILED)
    typer.echo(path)


@app.command(epilog="Example: `ixt gc run.yaml --older-than-days 30 --delete`")
def gc(
    file: ManifestFile,
    workdir: Workdir = None,
    older_than_days: Annotated[
        int, typer.Option("--older-than-days", help="Keep what is younger than this.", min=0)
    ] = 14,
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; otherwise only say what.")] = False,
) -> None:
    """Delete what no run needs any more from the manifest's storage.

    That is: artifacts that no run refers to, unfinished work that no run continues, and claims that nobody
    holds. The storage's folder runs/ says what each run refers to: delete a run's folder there to give it up.
    """
    from ixt_operator.cli import artifacts

    loaded, _ = _open(file, workdir)
    artifacts.collect_garbage(loaded, older_than_days, delete)


@app.command(epilog="Example: `ixt crd | kubectl apply --server-side -f -`")
def crd(
    folder: Annotated[
        Path | None, typer.Argument(help="Write one file each into this folder.", show_default=False)
    ] = None,
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


def _open(file: Path, workdir: Path | None) -> tuple[IXTRun, Path]:
    """The run of a file, with the uid that its workdir gave it, and the workdir."""
    from ixt_operator.adapters.local.errors import LocalError
    from ixt_operator.adapters.local.workdir import identified, workdir_of
    from ixt_operator.cli import load

    loaded = load.local_run_of(file)
    folder = workdir or workdir_of(loaded)
    # Read by the steps and by the programs that use the storage.
    os.environ.setdefault("IXT_PVC_ROOT", str((folder / "volumes").resolve()))
    try:
        return identified(loaded, folder), folder
    except LocalError as error:
        stop(str(error))


def _status_of(file: Path, folder: Path, workdir: Path | None) -> RunStatus:
    from ixt_operator.adapters.local.workdir import status_in

    found = status_in(folder)
    if found is None:
        stop(f"{folder} has no run yet: start it with `{_run(file, workdir)}`")
    return found


def _run(file: Path, workdir: Path | None, runtime: Path | None = None) -> str:
    """The `ixt run` command of these arguments, quoted for a shell."""
    options = {"-w": workdir, "--runtime": runtime}
    given = [text for name, value in options.items() if value for text in (name, str(value))]
    return shlex.join(["ixt", "run", str(file), *given])


def _print_changes(run: IXTRun, folder: Path) -> None:
    from ixt_operator.cli import explain

    explain.print_changes(run, folder)
