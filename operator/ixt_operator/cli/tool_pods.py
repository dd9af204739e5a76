"""What `kubectl ixt` does with a run's storage: by a pod that has the run's own credentials, and that is made
with the rights of whoever asks. Of what the operator refuses to the run nothing is in it."""

import base64
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.cli import cluster
from ixt_operator.cli.stop import FAILED, stop
from ixt_operator.manifests.documents import dump
from ixt_operator.planner.building import claim_of, tool_child
from ixt_operator.planner.spec import storage_uri
from ixt_operator.render.render import render
from ixt_workloads.contract.exported import EvalQuestion, ExportQuestion, SampleQuestion
from ixt_workloads.contract.kinds import Role

FETCH_SECONDS = 300
"""A pod that does not run is waited for so long; one that runs, as long as it does."""

TOOLS = ("python", "-m", "ixt_workloads.tools")


def shown(run: IXTRun, key: str, file: str) -> str:
    """A file of an artifact, gzipped and in base64."""
    return _output_of(run, "report", (*TOOLS, "show", storage_uri(run), key, file))


def exported(run: IXTRun, question: ExportQuestion, secrets: Sequence[str]) -> str:
    """Export a model; where it is. `secrets` are more Secrets whose entries the pod gets as variables."""
    command = _asked("export", question)
    claim = claim_of(question.target)
    said = _output_of(run, "export", command, secrets=secrets, more={claim: True} if claim else {})
    return said.strip().rpartition("\n")[2]


def sampled(run: IXTRun, question: SampleQuestion) -> str:
    """What a model writes, without what libraries logged before."""
    command = _asked("sample", question)
    said = _output_of(run, "sample", command, role=Role.EVALUATOR)
    return said[max(0, said.find("--- ")) :]


def evaluated(run: IXTRun, question: EvalQuestion) -> str:
    """What a model scores on tasks of the harness, likewise."""
    command = _asked("eval", question)
    harness = question.config.evaluate.harness
    claims = {claim_of(task.uri or "") for task in (harness.tasks if harness else ())} - {""}
    said = _output_of(run, "eval", command, role=Role.EVALUATOR, more=dict.fromkeys(claims, False))
    table = re.search(r"^task +metric +items", said, re.MULTILINE)
    return said[table.start() if table else 0 :]


def _asked(verb: str, question: EvalQuestion | ExportQuestion | SampleQuestion) -> tuple[str, ...]:
    """A verb with its question, which is not to be read as a pod's arguments are: $(NAME) is a variable."""
    return (*TOOLS, verb, "--question", base64.b64encode(question.model_dump_json().encode()).decode())


def _output_of(
    run: IXTRun,
    what: str,
    command: tuple[str, ...],
    role: Role = Role.WORKER,
    secrets: Sequence[str] = (),
    more: Mapping[str, bool] | None = None,
) -> str:
    """Run a command as a Job of one pod that the operator takes no notice of; return what it prints. The Job
    is deleted afterwards, also when it failed. `more` are volume claims beside the run's own, and
    whether it may write there."""
    runtime = IXTRuntime.model_validate(cluster.answer("get", "ixtruntime", run.spec.runtime_ref.name))
    child = tool_child(run, f"{run.metadata.name[:30]}-{what}-{uuid.uuid4().hex[:8]}", command, role)
    claims = dict(child.claims)
    for name, writes in (more or {}).items():
        claims[name] = writes or claims.get(name, False)
    child = child.model_copy(update={"secrets": (*child.secrets, *secrets), "claims": claims})
    (*_, job) = render(run, runtime, child)
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata["labels"] = {"app.kubernetes.io/name": "ixt", "ixt.dev/tool": child.name}
    job["spec"].pop("suspend", None)
    _without_task(job["spec"]["template"]["spec"])
    try:
        cluster.kubectl("create", "-f", "-", stdin=dump(job))
        if not _ended_well(child.name):
            said = cluster.kubectl("logs", f"job/{child.name}", "--tail=5")
            stop(f"its pod failed, or did not run within {FETCH_SECONDS} s:\n{said}", FAILED)
        return cluster.kubectl("logs", f"job/{child.name}")
    finally:
        cluster.kubectl("delete", "job", child.name, "--ignore-not-found", "--wait=false")


def _without_task(spec: Any) -> None:
    """The spec of a pod that has no task."""
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "ixt-task"]
    for container in spec["containers"]:
        mounts = container.get("volumeMounts", [])
        container["volumeMounts"] = [mount for mount in mounts if mount["name"] != "ixt-task"]


def _ended_well(job: str) -> bool:
    """Wait for a Job's end; whether it completed."""
    deadline = time.monotonic() + FETCH_SECONDS
    while time.monotonic() < deadline:
        status = cluster.answer("get", "job", job).get("status", {})
        ended = {entry["type"] for entry in status.get("conditions", []) if entry["status"] == "True"}
        if ended & {"Complete", "Failed"}:
            return "Complete" in ended
        if status.get("ready"):
            deadline = time.monotonic() + FETCH_SECONDS
        time.sleep(1)
    return False
