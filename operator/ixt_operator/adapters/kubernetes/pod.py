"""What one pod says about its process. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ixt_operator.adapters.kubernetes.conditions import holding, since, told_at, told_or_made_at
from ixt_operator.adapters.kubernetes.holding import held
from ixt_operator.adapters.kubernetes.log import readable
from ixt_operator.api.runtime import MAIN
from ixt_operator.api.status import unix
from ixt_operator.planner.observed import ProcessPhase, ProcessState
from ixt_operator.render.names import QUEUE, Object
from ixt_workloads.contract.exits import PlatformReason
from ixt_workloads.contract.results import Progress, Result
from ixt_workloads.contract.versions import read_known

INDEX = "batch.kubernetes.io/job-completion-index"

LAST_LOG_BYTES = 2048

_HINTS = {
    "Multi-Attach error": "a ReadWriteOnce claim serves the pods of one node: use a ReadWriteMany one",
}
"""What helps against what events say, by a part of it."""

_BLOCKED = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}
"""Reasons of a waiting container that a person must remove."""

_LOST = {
    "DeletionByTaintManager": PlatformReason.NODE_LOST,
    "DeletionByPodGC": PlatformReason.NODE_LOST,
    "PreemptionByScheduler": PlatformReason.PREEMPTED,
    "EvictionByEvictionAPI": PlatformReason.EVICTED,
    "TerminationByKubelet": PlatformReason.EVICTED,
    "Evicted": PlatformReason.EVICTED,
    "NodeLost": PlatformReason.NODE_LOST,
    "Preempting": PlatformReason.PREEMPTED,
}
"""Reasons of the pod condition DisruptionTarget (Kubernetes: Disruptions) and of a pod's status, as ours."""


class Heard(NamedTuple):
    """What is known of Jobs and pods that they do not say themselves, by their uids."""

    progress: Mapping[str, Progress]
    why: Mapping[str, str]
    """Warnings about what makes no progress."""


def replica_of(place: int, pod: Object, heard: Heard) -> ProcessState:
    """A server's process, ready or not. Until it is ready, it also has how its container ended last, which is
    why it was started anew."""
    process = process_of(place, pod, heard)
    status = _container(pod)
    ready = since(pod, "Ready")
    process = process.model_copy(update={"up_since": ready})
    if ready is not None:
        return process.model_copy(update={"phase": ProcessPhase.READY, "told_at": told_at(pod)})
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
    if not ended:
        return process
    phase = ProcessPhase.RUNNING if "running" in status.get("state", {}) else ProcessPhase.FAILED
    return process.model_copy(update={"phase": phase, **_ending(ended)})


def process_of(index: int, pod: Object, heard: Heard) -> ProcessState:
    """A pod's process as one of its child's."""
    metadata, status = pod["metadata"], pod.get("status", {})
    container = _container(pod)
    common: dict[str, Any] = {
        "index": index,
        "where": f"pod {metadata['name']}, container {MAIN}",
        "host": pod["spec"].get("nodeName", ""),
        "log": f"kubectl logs -n {metadata.get('namespace', 'default')} {metadata['name']} -c {MAIN}",
        "restarts": int(container.get("restartCount") or 0),
        "lasted": _lasted(container),
        "up_since": _up_since(container),
        **held(pod),
    }
    values = common | _ending(container.get("state", {}).get("terminated") or {})
    values["told_at"] = told_at(pod)
    match phase_of_main(pod):
        case "Succeeded":
            if values["result"] is None:
                values["reason"] = PlatformReason.NO_RESULT
                return ProcessState(**values, phase=ProcessPhase.FAILED)
            return ProcessState(**values, phase=ProcessPhase.SUCCEEDED)
        case "Failed":
            values["ended_at"] = values["ended_at"] or unix(metadata["creationTimestamp"])
            whole = str(status.get("reason") or "") if values["exit_code"] is None else ""
            values["reason"] = _disruption(pod) or values["reason"] or whole
            return ProcessState(**values, phase=ProcessPhase.FAILED)
        case "Running":
            progress = heard.progress.get(metadata["uid"])
            return ProcessState(**common, phase=ProcessPhase.RUNNING, progress=progress)
    reason, since = blocked(pod, heard.why)
    return ProcessState(**common, phase=ProcessPhase.PENDING, reason=reason, blocked_since=since)


def blocked(pod: Object, why: Mapping[str, str]) -> tuple[str, float | None]:
    """Why a pod does not start, and since when; empty while nothing keeps it from starting."""
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            if condition.get("reason") == "SchedulingGated":
                return waits_for(pod), None
            said = f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}"
            return said, _unscheduled_since(pod)
    waiting = _container(pod).get("state", {}).get("waiting", {})
    said = why.get(pod["metadata"]["uid"], "")
    if waiting.get("reason") in _BLOCKED:
        said = f"{waiting['reason']}: {waiting.get('message', '')}"
    said = "; ".join([said, *(hint for part, hint in _HINTS.items() if part in said)])
    return said, (scheduled_at(pod) or unix(pod["metadata"]["creationTimestamp"])) if said else None


def scheduled_at(pod: Object) -> float | None:
    """When a pod got its node, as the API server notes it; None before."""
    return since(pod, "PodScheduled")


def _unscheduled_since(pod: Object) -> float:
    """Since when no node is found for a pod: its creation, or if it waited in a queue, that its scheduler
    said so last."""
    return told_or_made_at(pod) if label_of(pod, QUEUE) else unix(pod["metadata"]["creationTimestamp"])


def waits_for(queued: Object) -> str:
    """What a suspended Job or a gated pod waits for."""
    queue = label_of(queued, QUEUE)
    if not queue:
        return "Suspended: not by ixt"
    namespace = queued["metadata"].get("namespace", "default")
    return f"Queued: waits for queue {queue}, kubectl describe workloads -n {namespace} says what for"


def phase_of(pod: Object) -> str:
    """A pod's phase; Pending before any kubelet has said one."""
    return str(pod.get("status", {}).get("phase") or "Pending")


def phase_of_main(pod: Object) -> str:
    """The phase of a step's pod as its main container has it: when that has ended so has the step, whatever
    others do beside it."""
    code = main_ended(pod)
    if code is None or _disruption(pod):
        return phase_of(pod)
    return "Succeeded" if code == 0 else "Failed"


def main_ended(pod: Object) -> int | None:
    """The exit code of a step's main container; None while it has not ended."""
    ended = _container(pod).get("state", {}).get("terminated")
    return None if ended is None else int(ended.get("exitCode") or 0)


def has_company(pod: Object) -> bool:
    """Whether a container runs beside the main one."""
    statuses: Iterable[Object] = pod.get("status", {}).get("containerStatuses", ())
    return any(status["name"] != MAIN and "running" in status.get("state", {}) for status in statuses)


def index_of(pod: Object) -> int:
    """Index of a pod in its Job; 0 for one without."""
    metadata = pod["metadata"]
    told = metadata.get("annotations", {}).get(INDEX)
    return int(told or metadata.get("labels", {}).get(INDEX) or 0)


def port_of(pod: Object, name: str, otherwise: int) -> int:
    """A named port of a pod, if it has ports of its own (render/ports.py)."""
    ports = (port for container in pod["spec"].get("containers", ()) for port in container.get("ports") or ())
    return next((int(port["containerPort"]) for port in ports if port.get("name") == name), otherwise)


def label_of(manifest: Object, name: str) -> str:
    """A label's value; empty without one."""
    return str(manifest["metadata"].get("labels", {}).get(name, ""))


def _ending(terminated: Object) -> dict[str, Any]:
    """How a container ended, as fields of ProcessState: its message is a result, which has the last lines of
    its log if it failed, or these lines themselves."""
    message = str(terminated.get("message") or "")
    try:
        result = read_known(Result, message)
        last_log = result.log_tail
    except ValueError:
        result, last_log = None, readable(message[-LAST_LOG_BYTES:])
    finished = terminated.get("finishedAt")
    reason = str(terminated.get("reason") or "")
    return {
        "exit_code": terminated.get("exitCode"),
        "ended_at": unix(finished) if finished else None,
        "result": result,
        "last_log": last_log,
        "reason": reason if reason not in ("Error", "Completed") else "",
    }


def _lasted(container: Object) -> float | None:
    """For how many seconds a container's run before the last start lasted, by its node's clock."""
    ended = container.get("lastState", {}).get("terminated") or {}
    if not ended.get("startedAt") or not ended.get("finishedAt"):
        return None
    return unix(ended["finishedAt"]) - unix(ended["startedAt"])


def _up_since(container: Object) -> float | None:
    """When a container was started, if it runs or has ended."""
    states = container.get("state", {}).values()
    return next((unix(state["startedAt"]) for state in states if state.get("startedAt")), None)


def _disruption(pod: Object) -> str:
    """The reason for which a pod was ended from outside; empty for others."""
    for condition in holding(pod, "DisruptionTarget"):
        return _LOST.get(condition.get("reason", ""), PlatformReason.EVICTED)
    return _LOST.get(str(pod.get("status", {}).get("reason") or ""), "")


def _container(pod: Object) -> Object:
    statuses: Iterable[Object] = pod.get("status", {}).get("containerStatuses", ())
    return next((status for status in statuses if status["name"] == MAIN), {})
