"""What one pod says about its process. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from ixt_operator.api.runtime import MAIN
from ixt_operator.api.status import unix
from ixt_operator.planner.observed import ProcessPhase, ProcessState
from ixt_operator.render.names import QUEUE
from ixt_workloads.contract.exits import PlatformReason
from ixt_workloads.contract.results import Progress, Result
from ixt_workloads.contract.versions import read_known

Object = Mapping[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"

LAST_LOG_BYTES = 2048

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


def replica_of(place: int, pod: Object, why: Mapping[str, str]) -> ProcessState:
    """A server's process, ready or not. Until it is ready, it also has how its container ended last, which is
    why it was started anew."""
    process = process_of(place, pod, {}, why)
    status = _container(pod)
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions", ())
    )
    if ready:
        return process.model_copy(update={"phase": ProcessPhase.READY})
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
    if not ended:
        return process
    phase = ProcessPhase.RUNNING if "running" in status.get("state", {}) else ProcessPhase.FAILED
    return process.model_copy(update={"phase": phase, **_ending(ended)})


def process_of(
    index: int, pod: Object, progress: Mapping[str, Progress], why: Mapping[str, str]
) -> ProcessState:
    """A pod's process as one of its child's. `progress` and `why` are by the pods' uid."""
    metadata, status = pod["metadata"], pod.get("status", {})
    container = _container(pod)
    common: dict[str, Any] = {
        "index": index,
        "where": f"pod {metadata['name']}, container {MAIN}",
        "host": pod["spec"].get("nodeName", ""),
        "log": f"kubectl logs -n {metadata.get('namespace', 'default')} {metadata['name']} -c {MAIN}",
        "restarts": int(container.get("restartCount") or 0),
    }
    ended = container.get("state", {}).get("terminated")
    match phase_of(pod):
        case "Succeeded":
            values = common | _ending(ended or {})
            if values["result"] is None:
                values["reason"] = PlatformReason.NO_RESULT
                return ProcessState(**values, phase=ProcessPhase.FAILED)
            return ProcessState(**values, phase=ProcessPhase.SUCCEEDED)
        case "Failed":
            values = common | _ending(ended or {})
            values["ended_at"] = values["ended_at"] or unix(metadata["creationTimestamp"])
            values["reason"] = _disruption(pod) or values["reason"] or str(status.get("reason") or "")
            return ProcessState(**values, phase=ProcessPhase.FAILED)
        case "Running":
            return ProcessState(**common, phase=ProcessPhase.RUNNING, progress=progress.get(metadata["uid"]))
    reason, since = blocked(pod, why)
    return ProcessState(**common, phase=ProcessPhase.PENDING, reason=reason, blocked_since=since)


def blocked(pod: Object, why: Mapping[str, str]) -> tuple[str, float | None]:
    """Why a pod does not start, and since when; empty while nothing keeps it from starting."""
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            if condition.get("reason") == "SchedulingGated":
                return waits_for(pod), None
            said = f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}"
            return said, unix(condition["lastTransitionTime"])
    waiting = _container(pod).get("state", {}).get("waiting", {})
    said = why.get(pod["metadata"]["uid"], "")
    if waiting.get("reason") in _BLOCKED:
        said = f"{waiting['reason']}: {waiting.get('message', '')}"
    started = pod.get("status", {}).get("startTime") or pod["metadata"]["creationTimestamp"]
    return said, unix(started) if said else None


def waits_for(queued: Object) -> str:
    """What a suspended Job or a gated pod waits for."""
    queue = label_of(queued, QUEUE)
    if not queue:
        return "it is suspended, and not by ixt"
    namespace = queued["metadata"].get("namespace", "default")
    return f"waits for queue {queue}, kubectl describe workloads -n {namespace} says what for"


def phase_of(pod: Object) -> str:
    """A pod's phase; Pending before any kubelet has said one."""
    return str(pod.get("status", {}).get("phase") or "Pending")


def index_of(pod: Object) -> int:
    """Index of a pod in its Job; 0 for one without."""
    metadata = pod["metadata"]
    return int(metadata.get("annotations", {}).get(INDEX) or metadata.get("labels", {}).get(INDEX) or 0)


def label_of(manifest: Object, name: str) -> str:
    """A label's value; empty without one."""
    return str(manifest["metadata"].get("labels", {}).get(name, ""))


def _ending(terminated: Object) -> dict[str, Any]:
    """How a container ended, as fields of ProcessState: its message is a result, or the last lines of its
    log."""
    message = str(terminated.get("message") or "")
    try:
        result = read_known(Result, message)
        last_log = ""
    except ValueError:
        result, last_log = None, message[-LAST_LOG_BYTES:]
    finished = terminated.get("finishedAt")
    reason = str(terminated.get("reason") or "")
    return {
        "exit_code": terminated.get("exitCode"),
        "ended_at": unix(finished) if finished else None,
        "result": result,
        "last_log": last_log,
        "reason": reason if reason not in ("Error", "Completed") else "",
    }


def _disruption(pod: Object) -> str:
    """The reason for which a pod was ended from outside; empty for others."""
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return _LOST.get(condition.get("reason", ""), PlatformReason.EVICTED)
    return _LOST.get(str(pod.get("status", {}).get("reason") or ""), "")


def _container(pod: Object) -> Object:
    statuses: Iterable[Object] = pod.get("status", {}).get("containerStatuses", ())
    return next((status for status in statuses if status["name"] == MAIN), {})
