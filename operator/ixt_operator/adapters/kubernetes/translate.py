"""What Jobs, Deployments and pods say about a run's children. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ixt_operator.adapters.kubernetes.conditions import holding, told_at, told_or_made_at
from ixt_operator.adapters.kubernetes.pod import (
    Heard,
    blocked,
    has_company,
    index_of,
    label_of,
    main_ended,
    phase_of,
    process_of,
    replica_of,
    scheduled_at,
    waits_for,
)
from ixt_operator.api.status import unix
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_operator.render.names import ATTEMPT, AVOIDS, CHILD, KEY, PLACE_SECONDS, Object, fields_of_node
from ixt_workloads.contract.exits import PlatformReason
from ixt_workloads.contract.results import Progress

MESSAGE_LENGTH = 1024
"""Characters of an event's message that are read; Kubernetes' own have no more."""
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
    heard = Heard(progress or {}, why or {})
    pods = _by_child(seen.pods)
    found: dict[str, ChildState] = {}
    for job in seen.jobs:
        name = job["metadata"]["name"]
        found[name] = _child(job, name, _tasks(job, pods.pop(name, []), heard))
    for deployment in seen.deployments:
        name = deployment["metadata"]["name"]
        found[name] = _child(deployment, name, _server(deployment, pods.pop(name, []), heard))
    # Pods whose Job or Deployment is gone still have their devices.
    for name, left in pods.items():
        live = [pod for pod in left if phase_of(pod) not in ("Succeeded", "Failed")]
        if live and name:
            processes = tuple(process_of(index_of(pod), pod, heard) for pod in live)
            found[name] = _child(live[0], name, processes).model_copy(update={"deleting": True})
    return Observed(children=found)


LOST_NODE = ("node.kubernetes.io/unreachable", "node.kubernetes.io/out-of-service")
"""Taints of a node whose kubelet says nothing, or that a person has declared to be off."""


LINGER_SECONDS = 1
"""activeDeadlineSeconds of a pod whose step has ended: the kubelet ends what still runs in it, and keeps what
its main container said."""


class Lost(NamedTuple):
    """Pods that nothing else will mark as ended, if their nodes are lost."""

    mark: list[Object]
    """To be marked as failed, which lets their Job end; what they told stays to be read."""
    remove: list[Object]
    """To be removed, since what owned them is gone or is to go."""


def stuck_at(pod: Object) -> float | None:
    """From when a deleted pod may be one of a lost node; None for one not deleted."""
    # The API server sets deletionTimestamp to the end of the grace.
    until = pod["metadata"].get("deletionTimestamp")
    return None if until is None else unix(until) + STUCK_SECONDS


def lost(seen: Seen, now: float) -> Lost:
    """Pods that are there long after they should be gone. Whether their nodes are lost is to be asked."""
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


def lingering(seen: Seen) -> list[Object]:
    """Pods whose step has ended and in which other containers go on, as plain ones of a service mesh do: the
    pod keeps its devices, and its Job does not end. One that failed is to be ended at once; of others all of
    a Job together, since a pod that is ended makes its Job stop those that work."""
    found: list[Object] = []
    pods = _by_child(seen.pods)
    for job in seen.jobs:
        name = job["metadata"]["name"]
        codes = [main_ended(pod) for pod in pods[name]]
        all_ended = None not in codes and len(codes) >= int(job["spec"].get("completions") or 1)
        for pod, code in zip(pods[name], codes, strict=True):
            stays = has_company(pod) and "deletionTimestamp" not in pod["metadata"]
            if stays and code is not None and (code or all_ended) and not _told_to_end(pod):
                found.append(pod)
    return found


def _told_to_end(pod: Object) -> bool:
    return bool(pod["spec"].get("activeDeadlineSeconds") == LINGER_SECONDS)


def node_lost(node: Object | None) -> bool:
    """Whether nothing of a node runs any more, or nobody can say: it is gone, or tainted as out of reach. On
    any other a pod that takes long to stop still has its devices and files."""
    taints = node.get("spec", {}).get("taints", ()) if node else ()
    return node is None or any(taint["key"] in LOST_NODE for taint in taints)


class Unexplained(NamedTuple):
    """A Job or pod that makes no progress and does not say why; its events may."""

    uid: str
    since: float
    """Unix seconds."""
    patience: float
    """Seconds after which its events are asked for (explaining.py)."""


PODLESS_SECONDS = 5.0
"""A Job that lacks pods after this long is asked why."""

UNSTARTED_SECONDS = 20.0
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
    waits = phase_of(pod) == "Pending" and blocked(pod, {}) == ("", None)
    return scheduled_at(pod) if waits and "deletionTimestamp" not in pod["metadata"] else None


def newest_of(*events: Object) -> Object:
    """The newest of an object's events, cut down to what is read of one: anybody may write large ones."""

    # Events about one object come from several machines, each of which dates them by its clock.
    def told(event: Object) -> tuple[str, bool]:
        metadata = event["metadata"]
        written = [str(each.get("time") or "") for each in metadata.get("managedFields", ())]
        return max([metadata["creationTimestamp"], *written]), event.get("type") == "Warning"

    newest = max(events, key=told)
    kept = {name: str(newest.get(name) or "")[:MESSAGE_LENGTH] for name in ("type", "reason", "message")}
    return {**kept, "metadata": {"creationTimestamp": told(newest)[0]}}


def warning(newest: Object) -> str:
    """Reason and message of an object's newest event, if that is a warning; an older warning may be over."""
    if newest.get("type") != "Warning":
        return ""
    return f"{newest.get('reason') or 'Warning'}: {newest.get('message', '')}"


def _wanted_since(job: Object) -> float:
    """Since when a Job wants pods, in Unix seconds: its creation, or if it was suspended, what was told of it
    last."""
    conditions = job.get("status", {}).get("conditions", ())
    resumed = any(condition["type"] == "Suspended" for condition in conditions)
    return told_or_made_at(job) if resumed else unix(job["metadata"]["creationTimestamp"])


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
        avoids=AVOIDS in metadata.get("annotations", {}),
        processes=processes,
    )


def _tasks(job: Object, pods: list[Object], heard: Heard) -> tuple[ProcessState, ...]:
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
            found.append(process_of(index, by_index[index], heard))
        elif ended is not None:
            where = f"index {index}"
            phase = ProcessPhase.FAILED
            # When a node is removed, so are its pods, those that succeeded as well. Pods are told to end when
            # all of a Job's have done their work; when the first has, the Job may delete the others.
            done = holding(job, "Complete") or any(
                _told_to_end(pod) and main_ended(pod) == 0 for pod in by_index.values()
            )
            gone = PlatformReason.RESULT_LOST if done else PlatformReason.STOPPED
            found.append(
                ProcessState(
                    index=index, phase=phase, where=where, reason=gone, ended_at=ended, told_at=told_at(job)
                )
            )
        else:
            said = heard.why.get(job["metadata"]["uid"], "")
            since = _wanted_since(job) if said else None
            reason = said or (waits_for(job) if job["spec"].get("suspend") else "")
            found.append(_pending(index, reason, since))
    return tuple(found)


def _put_out(pod: Object, job: Object) -> bool:
    """Whether a pod was stopped because its Job was suspended: a queue that takes its admission back does
    that, and the Job deletes its pods and counts none as failed. A pod that is deleted otherwise ends its
    Job."""
    stopped = phase_of(pod) == "Failed" and "deletionTimestamp" in pod["metadata"]
    return stopped and not _is_over(job)


def _is_over(job: Object) -> bool:
    """Whether a Job has ended or is about to: it makes no more pods."""
    return bool(holding(job, "Failed", "FailureTarget", "Complete", "SuccessCriteriaMet"))


def _ended_at(job: Object) -> float | None:
    """When a Job failed or completed. FailureTarget comes first, Failed when its last pod is gone."""
    ends = holding(job, "Failed", "Complete")
    return min((unix(condition["lastTransitionTime"]) for condition in ends), default=None)


def _server(deployment: Object, pods: list[Object], heard: Heard) -> tuple[ProcessState, ...]:
    """The processes of a Deployment, one for each replica. Pods that are being deleted are left out: others
    come in their place."""
    stay = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    live = [pod for pod in stay if phase_of(pod) != "Failed"]
    late_since = _late_since(deployment)
    found = []
    for place, pod in enumerate(sorted(live, key=lambda pod: str(pod["metadata"]["name"]))):
        process = replica_of(place, pod, heard)
        scheduled = scheduled_at(pod)
        waits = process.phase is not ProcessPhase.READY and process.blocked_since is None
        if waits and scheduled is not None and late_since is not None and scheduled <= late_since:
            late = {"phase": ProcessPhase.FAILED, "reason": PlatformReason.NEVER_READY}
            process = process.model_copy(update=late)
        found.append(process)
    failure = next(iter(holding(deployment, "ReplicaFailure")), None)
    reason = f"{failure.get('reason') or 'FailedCreate'}: {failure.get('message', '')}" if failure else ""
    since = told_or_made_at(deployment) if failure else None
    wanted = int(deployment["spec"].get("replicas", 1))
    return (*found, *(_pending(index, reason, since) for index in range(len(found), wanted)))


def _pending(index: int, reason: str, since: float | None) -> ProcessState:
    """A process without a pod."""
    return ProcessState(index=index, phase=ProcessPhase.PENDING, reason=reason, blocked_since=since)


def _late_since(deployment: Object) -> float | None:
    """The time, in Unix seconds, by which a pod must have had its node to have had all its time to become
    ready; None while the Deployment has not waited for so long.

    A pod that got its node later, since it waited for its queue or a new node, is ended by its start-up
    probe.
    """
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            allowed = int(deployment["spec"]["progressDeadlineSeconds"])
            return told_or_made_at(deployment) - allowed + PLACE_SECONDS
    return None
