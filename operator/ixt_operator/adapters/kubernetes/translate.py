"""What Jobs, Deployments and pods say about a run's children. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ixt_operator.adapters.kubernetes.pod import (
    Object,
    blocked,
    index_of,
    label_of,
    phase_of,
    process_of,
    replica_of,
    waits_for,
)
from ixt_operator.api.status import unix
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_operator.render.names import ATTEMPT, CHILD, KEY, PLACE_SECONDS, fields_of_node
from ixt_workloads.contract.exits import PlatformReason
from ixt_workloads.contract.results import Progress

STUCK_SECONDS = 30.0
"""A pod that is still there this long after it should be gone is on a node that does not answer."""


class Seen(NamedTuple):
    """The objects of one run."""

    jobs: tuple[Object, ...] = ()
    deployments: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()


def observed(
    seen: Seen, progress: Mapping[str, Progress] | None = None, why: Mapping[str, str] | None = None
) -> Observed:
    """The children of a run. `progress` is by the pods' uid, `why` the warnings about Jobs and pods
    (`unexplained`) by theirs."""
    progress, why = progress or {}, why or {}
    pods = _by_child(seen.pods)
    found: dict[str, ChildState] = {}
    for job in seen.jobs:
        name = job["metadata"]["name"]
        found[name] = _child(job, name, _tasks(job, pods.pop(name, []), progress, why))
    for deployment in seen.deployments:
        name = deployment["metadata"]["name"]
        found[name] = _child(deployment, name, _server(deployment, pods.pop(name, []), why))
    # Pods whose Job or Deployment is gone still have their devices.
    for name, left in pods.items():
        live = [pod for pod in left if phase_of(pod) not in ("Succeeded", "Failed")]
        if live and name:
            processes = tuple(process_of(place, pod, progress, why) for place, pod in enumerate(live))
            found[name] = _child(live[0], name, processes).model_copy(update={"deleting": True})
    return Observed(children=found)


class Lost(NamedTuple):
    """Pods of nodes that do not answer, so that nothing else will mark them as ended."""

    mark: list[Object]
    """To be marked as failed, which lets their Job end; what they told stays to be read."""
    remove: list[Object]
    """To be removed, since what owned them is gone or is to go."""


def stuck_at(pod: Object) -> float | None:
    """From when a deleted pod counts as one of a node that does not answer; None for one not deleted."""
    # The API server sets deletionTimestamp to the end of the grace.
    until = pod["metadata"].get("deletionTimestamp")
    return None if until is None else unix(until) + STUCK_SECONDS


def lost(seen: Seen, now: float) -> Lost:
    """Pods that are there long after they should be gone."""
    jobs = {job["metadata"]["name"] for job in seen.jobs if "deletionTimestamp" not in job["metadata"]}
    found = Lost([], [])
    for pod in seen.pods:
        due = stuck_at(pod)
        if due is None or now < due:
            continue
        if label_of(pod, CHILD) not in jobs:
            found.remove.append(pod)
        elif phase_of(pod) not in ("Succeeded", "Failed"):
            found.mark.append(pod)
    return found


class Unexplained(NamedTuple):
    """A Job or pod that makes no progress and does not say why; its events may."""

    uid: str
    since: float
    """Unix seconds."""
    patience: float
    """Seconds after which its events are listed. They are not watched, so each time costs a request."""


PODLESS_SECONDS = 5.0
"""A Job that lacks pods after this long is asked why."""

UNSTARTED_SECONDS = 60.0
"""A pod that does not run this long after its node took it is asked why; mostly its image is being pulled."""


def unexplained(seen: Seen) -> list[Unexplained]:
    """Jobs that lack pods, and pods that their node has taken and not started. (A Deployment says itself why
    it lacks pods.)"""
    pods = _by_child(seen.pods)
    jobs = [
        Unexplained(job["metadata"]["uid"], _wanted_since(job), PODLESS_SECONDS)
        for job in seen.jobs
        if _lacks_pods(job, pods[job["metadata"]["name"]])
    ]
    unstarted = ((pod, _unstarted_since(pod)) for pod in seen.pods)
    return jobs + [
        Unexplained(pod["metadata"]["uid"], since, UNSTARTED_SECONDS)
        for pod, since in unstarted
        if since is not None
    ]


def _lacks_pods(job: Object, pods: list[Object]) -> bool:
    if _is_over(job) or "deletionTimestamp" in job["metadata"] or job["spec"].get("suspend"):
        return False
    done = sum(phase_of(pod) == "Succeeded" for pod in pods)
    others = len(pods) - done
    done = max(done, int(job.get("status", {}).get("succeeded") or 0))
    return others < min(int(job["spec"]["parallelism"]), int(job["spec"]["completions"]) - done)


def _unstarted_since(pod: Object) -> float | None:
    """Since when a pod's node prepares it; None for a pod that runs or says itself why it does not start."""
    since = pod.get("status", {}).get("startTime")
    waits = phase_of(pod) == "Pending" and blocked(pod, {}) == ("", None)
    return unix(since) if since and waits and "deletionTimestamp" not in pod["metadata"] else None


def warning(events: Iterable[Object]) -> str:
    """The message of an object's newest event, if that is a warning; an older warning may be over."""

    def told(event: Object) -> tuple[str, bool]:
        at = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
        return str(at), event.get("type") == "Warning"

    newest = max(events, key=told, default={})
    return str(newest.get("message", "")) if newest.get("type") == "Warning" else ""


def _wanted_since(job: Object) -> float:
    """Since when a Job wants pods, in Unix seconds: its creation, or its end of being suspended."""
    return unix(job.get("status", {}).get("startTime") or job["metadata"]["creationTimestamp"])


def _by_child(pods: Iterable[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = defaultdict(list)
    for pod in pods:
        found[label_of(pod, CHILD)].append(pod)
    return found


def _child(owner: Object, name: str, processes: tuple[ProcessState, ...]) -> ChildState:
    """A child by the labels of its Job, Deployment or pod. A person may have edited them: a label that cannot
    be read makes a child that is not current."""
    metadata, attempt = owner["metadata"], label_of(owner, ATTEMPT)
    return ChildState(
        **fields_of_node(metadata.get("labels", {})),
        name=name,
        key=label_of(owner, KEY),
        attempt=int(attempt) if attempt.isdecimal() else 0,
        created_at=unix(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        processes=processes,
    )


def _tasks(
    job: Object, pods: list[Object], progress: Mapping[str, Progress], why: Mapping[str, str]
) -> tuple[ProcessState, ...]:
    """The processes of a Job, one for each index. An index without a pod has ended with its Job, or has not
    started."""
    by_index: dict[int, Object] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
        if not _put_out(pod, job):
            by_index[index_of(pod)] = pod
    ended = _ended_at(job)
    found = []
    for index in range(int(job["spec"].get("completions") or 1)):
        if index in by_index:
            found.append(process_of(index, by_index[index], progress, why))
        elif ended is not None:
            where = f"index {index}"
            phase = ProcessPhase.FAILED
            # When a node is removed, so are its pods, those that succeeded as well.
            gone = PlatformReason.RESULT_LOST if _true(job, "Complete") else PlatformReason.STOPPED
            found.append(ProcessState(index=index, phase=phase, where=where, reason=gone, ended_at=ended))
        else:
            said = why.get(job["metadata"]["uid"], "")
            since = _wanted_since(job) if said else None
            reason = said or (waits_for(job) if job["spec"].get("suspend") else "")
            found.append(
                ProcessState(index=index, phase=ProcessPhase.PENDING, reason=reason, blocked_since=since)
            )
    return tuple(found)


def _put_out(pod: Object, job: Object) -> bool:
    """Whether a pod was stopped because its Job was suspended: a queue that takes its admission back does
    that, and the Job deletes its pods and counts none as failed. A pod that is deleted otherwise ends its
    Job."""
    return phase_of(pod) == "Failed" and "deletionTimestamp" in pod["metadata"] and not _is_over(job)


def _is_over(job: Object) -> bool:
    """Whether a Job has ended or is about to: it makes no more pods."""
    return bool(_true(job, "Failed", "FailureTarget", "Complete", "SuccessCriteriaMet"))


def _ended_at(job: Object) -> float | None:
    """When a Job failed or completed. FailureTarget comes first, Failed when its last pod is gone."""
    times = [unix(condition["lastTransitionTime"]) for condition in _true(job, "Failed", "Complete")]
    return min(times, default=None)


def _true(owner: Object, *types: str) -> list[Object]:
    """Conditions of these types that hold."""
    conditions = owner.get("status", {}).get("conditions", ())
    return [entry for entry in conditions if entry["type"] in types and entry["status"] == "True"]


def _server(deployment: Object, pods: list[Object], why: Mapping[str, str]) -> tuple[ProcessState, ...]:
    """The processes of a Deployment, one for each replica. Pods that are being deleted are left out: others
    come in their place."""
    live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and phase_of(pod) != "Failed"]
    conditions = {entry["type"]: entry for entry in deployment.get("status", {}).get("conditions", ())}
    late_since = _late_since(deployment, conditions.get("Progressing", {}))
    found = []
    for place, pod in enumerate(sorted(live, key=lambda pod: str(pod["metadata"]["name"]))):
        process = replica_of(place, pod, why)
        if process.phase is not ProcessPhase.READY and process.blocked_since is None:
            started = pod.get("status", {}).get("startTime")
            if started and unix(started) <= late_since:
                late = {"phase": ProcessPhase.FAILED, "reason": PlatformReason.NEVER_READY}
                process = process.model_copy(update=late)
        found.append(process)
    failure = conditions.get("ReplicaFailure", {})
    since = unix(failure["lastTransitionTime"]) if failure.get("status") == "True" else None
    missing = ProcessState(
        index=0, phase=ProcessPhase.PENDING, reason=failure.get("message", ""), blocked_since=since
    )
    wanted = int(deployment["spec"].get("replicas", 1))
    found += [missing.model_copy(update={"index": index}) for index in range(len(found), wanted)]
    return tuple(found)


def _late_since(deployment: Object, progressing: Object) -> float:
    """The time, in Unix seconds, by which a pod must have started to have had all its time to become ready.

    A pod that started later, since it waited for its queue or a new node, is ended by its start-up probe.
    """
    if progressing.get("reason") != "ProgressDeadlineExceeded":
        return -math.inf
    allowed = int(deployment["spec"]["progressDeadlineSeconds"])
    return unix(progressing["lastTransitionTime"]) - allowed + PLACE_SECONDS
