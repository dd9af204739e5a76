"""`ixt`: its verbs, in the order in which its help tells them.

A verb imports what it needs once it is called: help and completion need none of it.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from ixt_operator.cli.verbs import looking, manifest, results, running

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


def _version(*, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"ixt {version('ixt')}")
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[
        bool, typer.Option("--version", callback=lambda asked: _version(asked=asked), is_eager=True)
    ] = False,
) -> None:
    """What is asked of ixt itself."""


EXAMPLES: dict[Callable[..., None], str] = {
    running.run: "`ixt run examples/quickstart/run.yaml --workdir .ixt/quickstart`",
    manifest.init: "`ixt init run.yaml --data web.jsonl --model Qwen/Qwen3-0.6B --scores score`",
    manifest.validate: "`ixt validate run.yaml runtime.yaml`",
    manifest.plan: "`ixt plan run.yaml --gpu H100`",
    manifest.render: "`ixt render run.yaml -n team-a | kubectl diff -f -`",
    looking.status: "`ixt status run.yaml -o json | jq .phase`",
    looking.watch: "`ixt watch run.yaml`",
    looking.logs: "`ixt logs run.yaml train/conditioned -f`",
    looking.why: "`ixt why run.yaml train/conditioned`",
    looking.diff: "`ixt diff run.yaml` after an edit of it",
    results.report: "`xdg-open $(ixt report run.yaml)`",
    results.compare: "`ixt compare rate-1e-4 rate-1e-3 --markdown`",
    results.export: "`ixt export run.yaml conditioned@pretrain ./model --prefix level=5`",
    results.sample: "`ixt sample run.yaml --prompt '1+2=' --levels 1,5`",
    results.evaluate: "`ixt eval run.yaml conditioned --tasks gsm8k,sums=./tasks --limit 100`",
    results.gc: "`ixt gc run.yaml --older-than-days 30 --delete`",
    manifest.crd: "`ixt crd | kubectl apply --server-side -f -`",
}
"""The verbs, each with an example that its help shows."""

for verb, example in EXAMPLES.items():
    # No function of ours is called as one of Python's.
    app.command("eval" if verb is results.evaluate else None, epilog=f"Example: {example}")(verb)
