"""`kubectl ixt`: the verbs for runs on a cluster.

Every request is made by kubectl, so configuration, contexts and credentials are the user's own.
"""

import base64
import gzip
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import Phase, RunStatus
from ixt_operator.cli.artifacts import PAGE, report_key
from ixt_operator.cli.stop import FAILED, stop
from ixt_operator.manifests.documents import dump
from ixt_operator.planner.building import tool_child
from ixt_operator.planner.child import Child
from ixt_operator.planner.history import Entry
from ixt_operator.planner.spec import storage_uri
from ixt_operator.render.names import ATTEMPT, CHILD, NODE, RUN, fields_of_node
from ixt_operator.render.preview import with_example_rubric
from ixt_operator.render.render import render
from ixt_workloads.contract.graph import OfNode
from ixt_workloads.contract.versions import read_known

FETCH_SECONDS = 300

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

Name = Annotated[str, typer.Argument(help="Name of the IXTRun.", show_default=False)]
StepName = Annotated[
    str | None,
    typer.Argument(
        help="Step as `kubectl ixt status` names it, for example train/conditioned.", show_default=False
    ),
]
_flags: list[str] = []


@app.callback()
def options(
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace of the run.", show_default=False)
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Context of the kubeconfig.", show_default=False)
    ] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="The kubeconfig.", show_default=False)] = None,
) -> None:
    """Flags that every verb passes on to kubectl."""
    given = {"--namespace": namespace, "--context": context, "--kubeconfig": kubeconfig}
    _flags[:] = [f"{name}={value}" for name, value in given.items() if value]


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
        Console().print(tree_and_note(name, _status(_run(name))))
        return
    with Live(auto_refresh=False) as live:
        while True:
            run = _run(name)
            found = _status(run)
            live.update(tree_and_note(name, found), refresh=True)
            seen = found.observed_generation == run["metadata"]["generation"]
            if seen and found.phase in (Phase.COMPLETE, Phase.FAILED):
                raise typer.Exit(FAILED if found.phase is Phase.FAILED else 0)
            time.sleep(2)


@app.command()
def logs(
    name: Name,
    step: StepName = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[int, typer.Option(help="Lines from the end of each pod's log; -1: all.")] = -1,
) -> None:
    """Print the logs of all pods of a step, or of all running steps, each line with its pod in front.

    Of a step that was tried again, the newest attempt's.
    """
    pods = _json("get", "pods", "-l", f"{RUN}={name}")["items"]
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
        stop(f"no pods of {step or 'a running step'} in run {name}; there are pods of:\n  {have}")
    chosen.sort(key=lambda entry: int(entry[1]["metadata"]["labels"][ATTEMPT]))
    newest = {node.node: pod["metadata"]["labels"][CHILD] for node, pod in chosen}
    arguments = ["kubectl", *_flags, "logs", "-l", f"{CHILD} in ({','.join(sorted(newest.values()))})"]
    arguments += ["--prefix", f"--tail={tail}", f"--max-log-requests={max(5, len(chosen))}"]
    arguments += ["-f"] if follow else []
    os.execvp("kubectl", arguments)  # noqa: S606 - Ctrl-C and the exit code are kubectl's


@app.command()
def why(name: Name, step: Annotated[str, typer.Argument(help="The step.", show_default=False)]) -> None:
    """Say which field caused a step's last re-run, from the tasks that its attempts were given."""
    from ixt_operator.cli import explain

    configs = _json("get", "configmaps", "-l", f"{RUN}={name}")["items"]
    run = with_example_rubric(_loaded(_run(name)))
    explain.print_why(run, _history(configs), step, f"run {name}")


@app.command()
def report(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(PAGE),
) -> None:
    """Fetch a completed run's report, by a pod that reads the storage with the run's own credentials."""
    manifest = _run(name)
    key = report_key(_status(manifest))
    if key is None:
        stop(f"run {name} has no report yet: it is {_status(manifest).phase.value}", FAILED)
    run = _loaded(manifest)
    runtime = IXTRuntime.model_validate(_json("get", "ixtruntime", run.spec.runtime_ref.name))
    command = ("python", "-m", "ixt_workloads.tools", "show", storage_uri(run), key, PAGE)
    child = tool_child(run, f"{name[:30]}-report-{uuid.uuid4().hex[:8]}", command)
    page = _output_of(run, runtime, child)
    output.write_bytes(gzip.decompress(base64.b64decode(page)))
    typer.echo(output)


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
    phase = _status(_run(name)).phase
    if phase is not Phase.FAILED:
        verb = "resume" if phase is Phase.SUSPENDED else "status"
        stop(f"run {name} has not failed: it is {phase.value}; see kubectl ixt {verb} {name}", FAILED)
    _suspend(name, suspended=True)
    _suspend(name, suspended=False)


def _suspend(name: str, *, suspended: bool) -> None:
    patch = json.dumps({"spec": {"suspend": suspended}})
    typer.echo(_kubectl("patch", "ixtrun", name, "--type=merge", "-p", patch), nl=False)


def _output_of(run: IXTRun, runtime: IXTRuntime, child: Child) -> str:
    """Run a child as a Job of one pod that the operator takes no notice of; return what it prints.

    The Job is deleted afterwards, also when it failed.
    """
    (*_, job) = render(run, runtime, child)
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata["labels"] = {"app.kubernetes.io/name": "ixt", "ixt.dev/tool": child.name}
    job["spec"].pop("suspend", None)
    spec = job["spec"]["template"]["spec"]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "ixt-task"]
    for container in spec["containers"]:
        mounts = container.get("volumeMounts", [])
        container["volumeMounts"] = [mount for mount in mounts if mount["name"] != "ixt-task"]
    try:
        _kubectl("create", "-f", "-", stdin=dump(job))
        if not _ended_well(child.name):
            said = _kubectl("logs", f"job/{child.name}", "--tail=5")
            stop(f"the pod that fetches it failed, or did not end in {FETCH_SECONDS} s:\n{said}", FAILED)
        return _kubectl("logs", f"job/{child.name}")
    finally:
        _kubectl("delete", "job", child.name, "--ignore-not-found", "--wait=false")


def _ended_well(job: str) -> bool:
    """Wait for a Job's end; whether it completed."""
    deadline = time.monotonic() + FETCH_SECONDS
    while time.monotonic() < deadline:
        conditions = _json("get", "job", job).get("status", {}).get("conditions", [])
        ended = {entry["type"] for entry in conditions if entry["status"] == "True"}
        if ended & {"Complete", "Failed"}:
            return "Complete" in ended
        time.sleep(1)
    return False


def _history(configs: list[Any]) -> list[Entry]:
    """The keys that nodes have had, oldest first, from the tasks in their ConfigMaps."""
    found: list[Entry] = []
    for config in sorted(configs, key=lambda config: str(config["metadata"]["creationTimestamp"])):
        text = config.get("data", {}).get("task.json")
        packed = config.get("binaryData", {}).get("task.json")
        task = json.loads(gzip.decompress(base64.b64decode(packed)) if packed else text or "{}")
        entry = Entry(config["metadata"]["annotations"][NODE], task.get("key", ""), task.get("preimage", {}))
        last = next((old for old in reversed(found) if old.node == entry.node), None)
        if entry.preimage and (last is None or last.key != entry.key):
            found.append(entry)
    return found


def _run(name: str) -> Any:
    return _json("get", "ixtrun", name)


def _status(manifest: Any) -> RunStatus:
    return read_known(RunStatus, manifest.get("status") or {})


def _loaded(manifest: Any) -> IXTRun:
    """The run without its status, which another version may have written."""
    try:
        return IXTRun.model_validate({name: value for name, value in manifest.items() if name != "status"})
    except ValidationError:
        stop("the operator does not accept the run as it stands: kubectl ixt status says why", FAILED)


def _json(*arguments: str) -> Any:
    return json.loads(_kubectl(*arguments, "-o", "json"))


def _kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl and return what it prints. When it fails, it has said why on stderr: exit code 1."""
    try:
        done = subprocess.run(
            ["kubectl", *_flags, *arguments], input=stdin, stdout=subprocess.PIPE, text=True, check=False
        )
    except FileNotFoundError:
        stop("kubectl is not on the PATH: install it, then try again")
    if done.returncode:
        raise typer.Exit(FAILED)
    return done.stdout


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
            flags += [argument] if equals else [argument, *([value] if (value := next(left, None)) else [])]
    return flags + rest
