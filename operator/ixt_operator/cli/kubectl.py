"""`kubectl ixt`: the verbs for runs on a cluster."""

import base64
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from ixt_operator.adapters.kubernetes.log import shown
from ixt_operator.api.run import KEEP_CHILDREN, IXTRun
from ixt_operator.api.status import Phase, StepState
from ixt_operator.cli import evaluating, explain, exporting, tool_pods
from ixt_operator.cli.artifacts import CONCLUSION, MAX_PAGE_BYTES, PAGE, guarded, report_key
from ixt_operator.cli.cluster import (
    NOT_ACCEPTED,
    answer,
    carried_out,
    flags,
    kubectl,
    loaded,
    manifest_of,
    starts_of,
    status_in,
)
from ixt_operator.cli.exporting import lane_and_target, levels_of
from ixt_operator.cli.stop import FAILED, stop
from ixt_operator.cli.top import rows, table
from ixt_operator.cli.verbs.arguments import (
    ExportWhat,
    Fewshot,
    Lane,
    Levels,
    Limit,
    LogFormat,
    MostTokens,
    Prefix,
    Prompt,
    Samples,
    Tasks,
)
from ixt_operator.planner.history import Entry
from ixt_operator.render.names import (
    ATTEMPT,
    CHILD,
    MANAGED_BY,
    MANAGER,
    RUN,
    fields_of_node,
)
from ixt_operator.render.preview import with_example_rubric
from ixt_workloads.contract.foreign import gunzipped
from ixt_workloads.contract.graph import OfNode

app = typer.Typer(
    name="kubectl ixt",
    help=(
        "Look at IXTRuns and steer them. `kubectl get ixt` lists them, `kubectl explain ixtrun.spec` teaches "
        "the manifest; these verbs say what kubectl cannot."
    ),
    epilog="Exit codes: 0 done, 1 failed, 2 bad usage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(help="Name of the IXTRun.")]
StepName = Annotated[
    str | None,
    typer.Argument(help="Step as `kubectl ixt status` names it, for example train/conditioned."),
]


@app.callback()
def options(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of the run.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="The kubeconfig.")] = None,
) -> None:
    """Flags that every verb passes on to kubectl."""
    given = {"--namespace": namespace, "--context": context, "--kubeconfig": kubeconfig}
    flags[:] = [f"{name}={value}" for name, value in given.items() if value]


@app.command()
def status(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until the run ends.")] = False,
) -> None:
    """Show stages, steps and arms of a run with their progress, and what it waits for."""
    from rich.console import Console
    from rich.live import Live

    from ixt_operator.cli.view import tree_and_note

    if not watch:
        console, manifest = Console(), manifest_of(name)
        found = status_in(manifest)
        console.print(tree_and_note(name, found))
        if any(step.kind == "Train" and step.state is StepState.COMPLETE for _, step in found.steps):
            # Whoever may not read ConfigMaps is told so by kubectl, and has the status all the same.
            with suppress(typer.Exit):
                for told in exporting.places(*carried_out(manifest), found):
                    console.print(told, soft_wrap=True, highlight=False)
        return
    with Live(auto_refresh=False) as live:
        while True:
            run = manifest_of(name)
            found = status_in(run)
            live.update(tree_and_note(name, found), refresh=True)
            seen = found.observed_generation == run["metadata"]["generation"]
            if seen and found.ended:
                raise typer.Exit(FAILED if found.phase is Phase.FAILED else 0)
            time.sleep(2)


@app.command()
def logs(
    name: Name,
    step: StepName = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[int, typer.Option(help="Lines from the end of each pod's log; -1: all.")] = -1,
    output: Annotated[
        LogFormat, typer.Option("--output", "-o", help="text: for people; json: as the pods wrote them.")
    ] = LogFormat.TEXT,
) -> None:
    """Print the logs of all pods of a step, or of all running steps, each line with its pod in front.

    Of a step that was tried again, the newest attempt's.
    """
    pods = answer("get", "pods", "-l", f"{RUN}={name}")["items"]
    found = [(OfNode(**fields_of_node(pod["metadata"]["labels"])), pod) for pod in pods]
    if step is None:
        chosen = [(node, pod) for node, pod in found if pod["status"].get("phase") == "Running"]
    else:
        chosen = [(node, pod) for node, pod in found if node.called(step, node.stage)]
    if not chosen:
        phases = {
            f"{node.node} ({pod['status'].get('phase', 'Pending')})" for node, pod in found if node.kind
        }
        have = "\n  ".join(sorted(phases)) or "(none)"
        if not found and status_in(manifest_of(name)).ended:
            stop(
                f"run {name} has ended, and its pods went with their logs; next time: "
                f"kubectl annotate ixtrun {name} {KEEP_CHILDREN}=true",
                FAILED,
            )
        stop(f"no pods of {step or 'a running step'} in run {name}; there are pods of:\n  {have}")
    chosen.sort(key=lambda entry: int(entry[1]["metadata"]["labels"][ATTEMPT]))
    newest = {node.node: pod["metadata"]["labels"][CHILD] for node, pod in chosen}
    children = ",".join(sorted(newest.values()))
    arguments = ["kubectl", *flags, "logs", "-l", f"{CHILD} in ({children})"]
    arguments += ["--prefix", f"--tail={tail}", f"--max-log-requests={max(5, len(chosen))}"]
    arguments += ["-f"] if follow else []
    if output is LogFormat.JSON:
        os.execvp("kubectl", arguments)  # noqa: S606 - Ctrl-C and the exit code are kubectl's
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, errors="replace") as reading:
        for line in reading.stdout or ():
            print(shown(line.rstrip("\n")), flush=follow)
    raise typer.Exit(reading.returncode)


@app.command()
def why(name: Name, step: Annotated[str, typer.Argument(help="The step.")]) -> None:
    """Say why a step's last attempt failed, and which field caused its last re-run."""
    manifest = manifest_of(name)
    run, status = with_example_rubric(loaded(manifest)), status_in(manifest)
    history = explain.history_of(starts_of(manifest), status)
    explain.print_why(run, history, status, step, f"run {name}")


@app.command()
def report(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. [default: report.html]")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Its conclusion as Markdown, printed unless -o is given.")
    ] = False,
) -> None:
    """Fetch a completed run's report, by a pod that reads the storage with the run's own credentials."""
    manifest = manifest_of(name)
    found = status_in(manifest)
    key = report_key(found)
    if key is None:
        stop(f"run {name} has no report yet: it is {found.phase.value}", FAILED)
    told = tool_pods.shown(_accepted(manifest), key, CONCLUSION if markdown else PAGE)
    try:
        page = gunzipped(base64.b64decode(told), MAX_PAGE_BYTES)
    except ValueError as error:
        stop(f"the report of run {name} cannot be read: {error}", FAILED)
    if markdown and output is None:
        typer.echo(page.decode(errors="replace"), nl=False)
        return
    output = output or Path(PAGE)
    output.write_bytes(page if markdown else guarded(page))
    typer.echo(output)


@app.command()
def export(
    name: Name,
    what: ExportWhat,
    prefix: Prefix = "best",
    secret: Annotated[
        list[str] | None,
        typer.Option(
            help="Secret whose entries the pod gets as variables, such as HF_TOKEN; may be repeated."
        ),
    ] = None,
) -> None:
    """Export a trained model with its card, by a pod with the run's own credentials.

    The target is hf://owner/name, s3://…, gs://… or pvc://CLAIM/PATH: a pod does not write onto this machine.
    """
    lane, target = lane_and_target(what, prefix)
    if "://" not in target or target.startswith("file://"):
        stop(
            f"a pod cannot write to {target} on this machine: name hf://owner/name, s3://…, gs://… or "
            "pvc://CLAIM/PATH"
        )
    manifest = manifest_of(name)
    run, newest, trained = _trained(manifest, lane)
    asked = exporting.question(run, newest, status_in(manifest), trained, prefix, target)
    typer.echo(tool_pods.exported(run, asked, secret or ()))


@app.command()
def sample(
    name: Name,
    prompt: Prompt,
    lane: Lane = "",
    levels: Levels = "",
    tokens: MostTokens = 128,
) -> None:
    """Show what a trained model writes after a prompt at different levels, by an evaluator's pod."""
    numbers = levels_of(levels)
    run, _, trained = _trained(manifest_of(name), lane)
    asked = exporting.sample_question(run, trained, prompt, numbers, tokens)
    typer.echo(tool_pods.sampled(run, asked), nl=False)


@app.command("eval")
def evaluate(
    name: Name,
    tasks: Tasks,
    lane: Lane = "",
    limit: Limit = None,
    fewshot: Fewshot = None,
    samples: Samples = 1,
) -> None:
    """Ask a trained model tasks of lm-evaluation-harness, under each prefix, by an evaluator's pod.

    The scores are kept in the run's storage: what was asked before is shown without asking again. A task in a
    folder is one of the hub, a bucket or pvc://CLAIM/PATH: a pod does not read this machine.
    """
    harness = evaluating.harness_of_a_pod(tasks, limit, fewshot, samples)
    run, _, trained = _trained(manifest_of(name), lane)
    typer.echo(tool_pods.evaluated(run, evaluating.eval_question(run, trained, harness)), nl=False)


def _trained(manifest: Any, lane: str) -> tuple[IXTRun, dict[str, Entry], exporting.Trained]:
    """An accepted run as it was started last, the newest key of each node, and the training that is meant."""
    _accepted(manifest)
    run, newest = carried_out(manifest)
    return run, newest, exporting.chosen(run, newest, lane)


def _accepted(manifest: Any) -> IXTRun:
    """The run of a manifest that the operator has accepted as it stands: its pods are made with your rights,
    so of what it refuses to the run nothing is in them."""
    if not status_in(manifest).accepted(manifest["metadata"]["generation"]):
        stop(NOT_ACCEPTED, FAILED)
    return loaded(manifest)


@app.command()
def top(
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
) -> None:
    """Show which run, step and lane holds how many GPUs and since when, and what waits for what."""
    scope = ["-A"] if everywhere else []
    ours = ("-l", f"{MANAGED_BY}={MANAGER}")
    pods, jobs = (answer("get", kind, *scope, *ours)["items"] for kind in ("pods", "jobs"))
    lines = table(rows(pods, jobs), time.time())
    told = lines if everywhere else [line[1:] for line in lines]
    widths = [max(map(len, column)) for column in zip(*told, strict=True)]
    for line in told:
        typer.echo("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())


@app.command()
def suspend(name: Name) -> None:
    """Suspend a run: it saves its state and frees everything, until `kubectl ixt resume`."""
    _suspend(name, suspended=True)


@app.command()
def resume(name: Name) -> None:
    """Let a suspended run go on."""
    _suspend(name, suspended=False)


@app.command()
def retry(name: Name) -> None:
    """Start a failed run again where it failed. What is committed is kept; failures count from zero.

    Any edit of a failed run's spec does the same.
    """
    phase = status_in(manifest_of(name)).phase
    if phase is not Phase.FAILED:
        verb = "resume" if phase is Phase.SUSPENDED else "status"
        stop(f"run {name} has not failed: it is {phase.value}; see kubectl ixt {verb} {name}", FAILED)
    _suspend(name, suspended=True)
    _suspend(name, suspended=False)


def _suspend(name: str, *, suspended: bool) -> None:
    patch = json.dumps({"spec": {"suspend": suspended}})
    typer.echo(kubectl("patch", "ixtrun", name, "--type=merge", "-p", patch), nl=False)


def main() -> None:
    """Entry point of the plugin."""
    app(_flags_first(sys.argv[1:]), prog_name="kubectl ixt")


def _flags_first(arguments: list[str]) -> list[str]:
    """The arguments with kubectl's own flags moved before the verb: people may write them anywhere."""
    flags, rest, left = [], [], iter(arguments)
    for argument in left:
        name, equals, _ = argument.partition("=")
        if name not in ("-n", "--namespace", "--context", "--kubeconfig"):
            rest.append(argument)
        else:
            flags += [argument, *islice(left, 0 if equals else 1)]
    return flags + rest
