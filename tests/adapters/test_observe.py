"""What objects of a cluster mean to the planner."""

import json
from typing import Any

import pytest
from make import runs
from make.children import SUCCEED, server, tasks
from make.objects import NOW, Object, condition, container, pod, terminated, time, told, workload

from ixt_operator.adapters.kubernetes.explaining import FIRST_SECONDS, PAUSE_SECONDS
from ixt_operator.adapters.kubernetes.translate import (
    LINGER_SECONDS,
    PODLESS_SECONDS,
    STUCK_SECONDS,
    UNSTARTED_SECONDS,
    Seen,
    lingering,
    lost,
    newest_of,
    observed,
    unexplained,
    warning,
)
from ixt_operator.api.status import RunStatus
from ixt_operator.planner.child import Child
from ixt_operator.planner.hosts import avoided
from ixt_operator.planner.now import Now
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_operator.planner.retry import cause_of
from ixt_operator.render.names import PLACE_SECONDS
from ixt_workloads.contract.exits import Fault, PlatformReason
from ixt_workloads.contract.results import Progress

ONE = tasks("one", SUCCEED, attempt=2)
THREE = tasks("three", SUCCEED, indexes=3)
JUDGE = server("judge", "serve()", indexes=2)
GIVEN = workload(JUDGE)["spec"]["progressDeadlineSeconds"]
USER_FAULT = '{"outcome": "Failed", "message": "no such file", "fault": "User"}'
COMMITTED = json.dumps({"outcome": "Committed", "key": "k"})


def child_of(child: Child, *pods: Object, owner: dict[str, Any] | None = None, **how: Any) -> ChildState:
    """A child as seen with these pods."""
    found = workload(child, **(owner or {}))
    is_job = found["kind"] == "Job"
    seen = Seen(jobs=(found,) if is_job else (), deployments=() if is_job else (found,), pods=pods)
    return observed(seen, **how).children[child.name]


def process(child: Child, *pods: Object, **how: Any) -> ProcessState:
    return child_of(child, *pods, **how).processes[0]


def test_what_a_child_is_known_by() -> None:
    state = child_of(ONE)
    assert (state.name, state.node, state.key, state.attempt) == ("one", "stage/one", "0" * 32, 2)
    assert (state.created_at, state.deleting) == (NOW, False)


def test_a_pod_that_is_not_there_yet_is_pending() -> None:
    assert [p.phase for p in child_of(THREE).processes] == [ProcessPhase.PENDING] * 3
    assert not child_of(THREE).ended


def test_running_with_its_progress() -> None:
    running = pod(ONE, phase="Running", **container(running={}))
    told = process(ONE, running, progress={running["metadata"]["uid"]: Progress(done=3, total=9)})
    assert (told.phase, told.host, told.where) == (
        ProcessPhase.RUNNING,
        "node-1",
        "pod one-0-x, container main",
    )
    assert told.progress == Progress(done=3, total=9)
    assert "kubectl logs -n default one-0-x" in told.log


def test_success_has_a_result() -> None:
    ended = process(
        ONE, pod(ONE, phase="Succeeded", **container(terminated=terminated(0, COMMITTED, "Completed")))
    )
    assert (ended.phase, ended.exit_code, ended.ended_at) == (ProcessPhase.SUCCEEDED, 0, NOW + 60)
    assert ended.result is not None
    assert ended.result.key == "k"


@pytest.mark.parametrize("message", ["", "{", '{"message": "well"}', "all is done"])
def test_success_without_a_result_that_can_be_read_is_none(message: str) -> None:
    ended = process(
        ONE, pod(ONE, phase="Succeeded", **container(terminated=terminated(0, message, "Completed")))
    )
    assert (ended.phase, ended.reason) == (ProcessPhase.FAILED, "NoResult")


def disrupted(reason: str) -> dict[str, Any]:
    return {"conditions": [condition("DisruptionTarget", reason)]}


def failed(code: int, message: str = "", reason: str = "Error", **status: Any) -> Object:
    return pod(ONE, phase="Failed", **container(terminated=terminated(code, message, reason)), **status)


@pytest.mark.parametrize(
    ("end", "fault", "said"),
    [
        (failed(66, USER_FAULT), Fault.USER, "no such file"),
        (failed(1, "Traceback\nValueError: broken"), Fault.APPLICATION, "ended with exit code 1"),
        (failed(137, reason="OOMKilled"), Fault.OUT_OF_MEMORY, "OOMKilled"),
        (failed(143), Fault.INFRASTRUCTURE, "killed by SIGTERM"),
        (failed(137), Fault.APPLICATION, "killed by SIGKILL"),
        (failed(139, reason="ContainerCannotRun"), Fault.APPLICATION, "ContainerCannotRun"),
        (failed(75, COMMITTED), Fault.INFRASTRUCTURE, "ended with exit code 75: its machine is sick"),
        (failed(137, **disrupted("EvictionByEvictionAPI")), Fault.INFRASTRUCTURE, "Evicted"),
        (failed(137, **disrupted("PreemptionByScheduler")), Fault.INFRASTRUCTURE, "Preempted"),
        (pod(ONE, phase="Failed", reason="Evicted"), Fault.INFRASTRUCTURE, "Evicted"),
        (pod(ONE, phase="Failed", reason="NodeLost"), Fault.INFRASTRUCTURE, "node node-1 was lost"),
        (
            pod(ONE, phase="Failed", **disrupted("DeletionByTaintManager")),
            Fault.INFRASTRUCTURE,
            "node node-1 was lost",
        ),
    ],
)
def test_the_fault_of_a_failed_pod(end: Object, fault: Fault, said: str) -> None:
    state = child_of(ONE, end)
    assert state.ended
    assert cause_of(state).fault is fault
    assert said in cause_of(state).message
    assert "pod one-0-x" in cause_of(state).message


def test_the_last_lines_of_a_log_are_kept() -> None:
    assert process(ONE, failed(1, "Traceback\nValueError: broken")).last_log.endswith("ValueError: broken")


def test_a_step_that_says_itself_what_failed_has_its_last_lines_beside_it() -> None:
    said = json.dumps(
        {"outcome": "Failed", "message": "no rows", "fault": "User", "logTail": "WARNING row 7"}
    )
    cause = cause_of(child_of(ONE, failed(66, said)))
    assert cause.message.endswith("no rows")
    assert cause.last_log == "WARNING row 7"


def test_of_lines_in_json_people_see_the_messages() -> None:
    lines = [
        {"time": "2026-01-02T03:04:05.678Z", "level": "INFO", "message": "wrote one\nand another"},
        {"time": "2026-01-02T03:04:06.000Z", "message": "failed", "exception": "Traceback …\nValueError: no"},
    ]
    log = "\n".join([*(json.dumps(line, ensure_ascii=False) for line in lines), "Killed", '{"a": 1}'])
    said = 'wrote one\nand another\nfailed\nTraceback …\nValueError: no\nKilled\n{"a": 1}'
    assert process(ONE, failed(1, log)).last_log == said


def test_a_line_in_json_whose_beginning_is_lost_still_says_how_it_ends() -> None:
    line = json.dumps(
        {"level": "ERROR", "message": "x", "exception": 'File "a.py", line 1\nValueError: \u00fc'}
    )
    for kept in range(len('ValueError: \\u00fc"}'), len(line)):
        tail = process(ONE, failed(1, line[-kept:])).last_log
        assert tail.endswith("ValueError: \u00fc"), kept
        assert "exception" not in tail


def test_the_cause_is_the_pod_that_failed_not_those_that_went_with_it() -> None:
    end = pod(THREE, 1, phase="Failed", **container(terminated=terminated(82)))
    live = pod(THREE, 0, phase="Running", **container(running={}))
    assert not child_of(THREE, end, live).ended
    state = child_of(THREE, end, owner={"conditions": [condition("Failed", after=90)]})
    assert [p.reason for p in state.processes] == ["Stopped", "", "Stopped"]
    assert cause_of(state).fault is Fault.HUNG


def test_a_result_that_went_with_its_pod_is_no_pod_that_was_cut_short() -> None:
    state = child_of(ONE, owner={"conditions": [condition("Complete", after=90)]})
    assert cause_of(state).fault is Fault.INFRASTRUCTURE
    assert "it succeeded, but its pod was deleted" in cause_of(state).message


def test_a_pod_that_somebody_deleted_is_an_infrastructure_fault() -> None:
    state = child_of(ONE, owner={"conditions": [condition("Failed", after=90)]})
    assert cause_of(state).fault is Fault.INFRASTRUCTURE
    assert "deleted before it ended" in cause_of(state).message


def test_of_two_pods_of_an_index_the_newer_counts() -> None:
    old, new = failed(1), pod(ONE, name="one-0-y", phase="Running", **container(running={}))
    new["metadata"]["creationTimestamp"] = "2099-01-01T00:00:00Z"
    for order in ((old, new), (new, old)):
        assert process(ONE, *order).phase is ProcessPhase.RUNNING


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"conditions": [condition("PodScheduled", "Unschedulable", "False", "no nvidia.com/gpu", 5)]},
            "Unschedulable: no nvidia.com/gpu",
        ),
        (container(waiting={"reason": "ImagePullBackOff", "message": "gone"}), "ImagePullBackOff: gone"),
        (
            container(waiting={"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}),
            'CreateContainerConfigError: secret "s" not found',
        ),
    ],
)
def test_what_keeps_a_pod_from_starting(status: dict[str, Any], reason: str) -> None:
    found = process(ONE, pod(ONE, **status))
    assert (found.phase, found.reason) == (ProcessPhase.PENDING, reason)
    assert found.blocked_since is not None


@pytest.mark.parametrize(
    "status",
    [
        container(waiting={"reason": "ContainerCreating"}),
        {"conditions": [condition("PodScheduled", "SchedulingGated", "False")]},
    ],
)
def test_a_pod_that_is_on_its_way_or_in_a_queue_is_not_blocked(status: dict[str, Any]) -> None:
    assert process(ONE, pod(ONE, **status)).blocked_since is None


def placed(after: float) -> dict[str, Any]:
    """A pod's status since it has its node."""
    return {"conditions": [condition("PodScheduled", after=after)]}


def asked(*jobs: Object, pods: tuple[Object, ...] = ()) -> list[str]:
    """Uids of that whose events may say why nothing comes."""
    return [each.uid for each in unexplained(Seen(jobs=jobs, pods=pods))]


def test_a_quota_is_told_by_the_jobs_events() -> None:
    job = workload(ONE)
    (why,) = unexplained(Seen(jobs=(job,)))
    assert why == (job["metadata"]["uid"], NOW, PODLESS_SECONDS)
    found = process(ONE, why={why.uid: "pods one-0 is forbidden: exceeded quota"})
    assert (found.reason, found.blocked_since) == ("pods one-0 is forbidden: exceeded quota", NOW)
    assert asked(job, pods=(pod(ONE),)) == []


def test_a_quota_with_room_for_one_of_two_pods_is_told_as_well() -> None:
    two = tasks("two", SUCCEED, indexes=2)
    job, first = workload(two), pod(two, phase="Running", **container(running={}))
    assert asked(job, pods=(first,)) == [job["metadata"]["uid"]]
    state = child_of(two, first, why={job["metadata"]["uid"]: "exceeded quota"})
    assert [(p.phase, p.reason, p.blocked_since) for p in state.processes] == [
        (ProcessPhase.RUNNING, "", None),
        (ProcessPhase.PENDING, "exceeded quota", NOW),
    ]


@pytest.mark.parametrize(
    "status",
    [
        {"succeeded": 1},
        {"conditions": [condition("FailureTarget")]},
        {"conditions": [condition("Failed")]},
    ],
)
def test_pods_that_are_gone_are_not_missed(status: dict[str, Any]) -> None:
    two = tasks("two", SUCCEED, indexes=2)
    assert asked(workload(two, **status), pods=(pod(two, 1, phase="Running", **container(running={})),)) == []
    done = pod(two, phase="Succeeded", **container(terminated=terminated(0, COMMITTED, "Completed")))
    assert asked(workload(two, **status), pods=(done, pod(two, 1))) == []


def test_a_volume_that_cannot_be_mounted_is_told_by_the_pods_events() -> None:
    creating = pod(ONE, **placed(3), **container(waiting={"reason": "ContainerCreating"}))
    (why,) = unexplained(Seen(jobs=(workload(ONE),), pods=(creating,)))
    assert why == (creating["metadata"]["uid"], NOW + 3, UNSTARTED_SECONDS)
    said = 'MountVolume.SetUp failed for volume "keys": secret "keys" not found'
    found = process(ONE, creating, why={why.uid: said})
    assert (found.phase, found.reason, found.blocked_since) == (ProcessPhase.PENDING, said, NOW + 3)
    judge = replica("a", **placed(3), **container(waiting={"reason": "ContainerCreating"}))
    assert process(JUDGE, judge, why={judge["metadata"]["uid"]: said}).blocked_since == NOW + 3


def test_a_claim_that_serves_one_node_alone_is_told_within_a_minute_and_what_helps() -> None:
    creating = pod(ONE, **placed(3), **container(waiting={"reason": "ContainerCreating"}))
    said = 'Multi-Attach error for volume "pvc-7" Volume is already used by pod(s) one-0'
    found = process(ONE, creating, why={creating["metadata"]["uid"]: said})
    assert (
        found.reason == f"{said}; a ReadWriteOnce claim serves the pods of one node: use a ReadWriteMany one"
    )
    assert found.blocked_since == NOW + 3
    assert UNSTARTED_SECONDS + FIRST_SECONDS + PAUSE_SECONDS < 60


@pytest.mark.parametrize(
    ("pod_fields", "status"),
    [
        ({}, {}),
        ({}, {**placed(3), **container(waiting={"reason": "ErrImagePull", "message": "gone"})}),
        ({}, {**placed(3), "phase": "Running", **container(running={})}),
        ({"deleted": 30}, placed(3)),
    ],
)
def test_a_pod_that_has_no_node_runs_says_why_or_is_to_go_is_not_asked(
    pod_fields: dict[str, Any], status: dict[str, Any]
) -> None:
    assert asked(workload(ONE), pods=(pod(ONE, **pod_fields, **status),)) == []


def event(type_: str, message: str, after: float, said: float | None = None) -> Object:
    """An event that was written some seconds after NOW; `said`: the time that it has, if that is another."""
    return {
        "metadata": {"creationTimestamp": time(), "managedFields": [{"time": time(after)}]},
        "type": type_,
        "reason": "FailedCreate",
        "message": message,
        "lastTimestamp": time(after if said is None else said),
    }


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], ""),
        ([event("Normal", "created", 1), event("Warning", "quota", 1)], "FailedCreate: quota"),
        ([event("Warning", "late", 9), event("Warning", "early", 2)], "FailedCreate: late"),
        ([event("Warning", "no volume yet", 2), event("Normal", "Pulling image", 3)], ""),
        (
            [
                event("Warning", "the clock of who says so is ahead", 2, 120),
                event("Normal", "Pulling image", 3),
            ],
            "",
        ),
    ],
)
def test_the_newest_event_tells(events: list[Object], said: str) -> None:
    assert warning(newest_of(*events) if events else {}) == said
    assert warning(newest_of(*reversed(events)) if events else {}) == said


def test_a_job_that_waited_in_a_queue_wants_pods_since_it_goes_on() -> None:
    admitted = told(workload(ONE, conditions=[condition("Suspended", status="False", after=380)]), 500)
    (why,) = unexplained(Seen(jobs=(admitted,)))
    assert why.since == NOW + 500
    (waits,) = observed(Seen(jobs=(admitted,)), why={why.uid: "exceeded quota"}).children["one"].processes
    assert waits.blocked_since == NOW + 500


def queued(**status: Any) -> Object:
    job = workload(ONE, **status)
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    job["spec"]["suspend"] = True
    return job


def test_a_job_in_a_queue_waits_and_says_for_what() -> None:
    state = observed(Seen(jobs=(queued(),))).children["one"]
    assert (state.live, state.processes[0].blocked_since) == (True, None)
    assert "waits for queue gpus" in state.processes[0].reason
    assert asked(queued()) == []


@pytest.mark.parametrize("suspended", [True, False])
def test_a_pod_that_the_queue_put_out_failed_at_nothing(suspended: bool) -> None:
    job = queued()
    job["spec"]["suspend"] = suspended
    state = observed(Seen(jobs=(job,), pods=(failed(143, deleted=30),))).children["one"]
    assert [p.phase for p in state.processes] == [ProcessPhase.PENDING]
    assert state.live


@pytest.mark.parametrize("ends", ["FailureTarget", "Failed"])
def test_a_pod_that_somebody_deletes_ends_its_job(ends: str) -> None:
    state = child_of(ONE, failed(143, deleted=30), owner={"conditions": [condition(ends, after=90)]})
    assert cause_of(state).fault is Fault.INFRASTRUCTURE


# --- Judges.


def replica(name: str, **status: Any) -> Object:
    return pod(JUDGE, name=name, **status)


READY = {"phase": "Running", "conditions": [condition("Ready")], **container(running={})}


def test_judges_are_ready_when_kubelet_says_so() -> None:
    state = child_of(JUDGE, replica("a", **READY), replica("b", phase="Running", **container(running={})))
    assert [p.phase for p in state.processes] == [ProcessPhase.READY, ProcessPhase.RUNNING]
    assert state.live


def test_a_judge_between_two_starts_tells_why_the_last_one_ended() -> None:
    end = terminated(66, '{"outcome": "Failed", "message": "no weights", "fault": "User"}')
    waits = container(waiting={"reason": "CrashLoopBackOff"}, last={"terminated": end}, restarts=2)
    found = process(JUDGE, replica("a", phase="Running", **waits))
    assert (found.phase, found.exit_code, found.restarts) == (ProcessPhase.FAILED, 66, 2)
    assert found.result is not None
    assert found.result.message == "no weights"


def test_a_judge_that_runs_again_tells_why_it_was_started_anew() -> None:
    """The kubelet counts a restart when the container runs: a loop is first seen in one that does."""
    again = container(running={}, last={"terminated": terminated(1, "no room for weights")}, restarts=2)
    found = process(JUDGE, replica("a", phase="Running", **again))
    assert (found.phase, found.exit_code, found.restarts) == (ProcessPhase.RUNNING, 1, 2)
    assert found.last_log == "no room for weights"


def late(*pods: Object, clock: float = 0.0) -> ChildState:
    """A judge that has not come further for as long as it may take, by a clock that is off."""
    condition_ = condition("Progressing", "ProgressDeadlineExceeded", "False", after=GIVEN + clock)
    deployment = told(workload(JUDGE, conditions=[condition_]), GIVEN)
    return observed(Seen((), (deployment,), pods)).children["judge"]


def test_a_judge_that_is_not_ready_in_time_is_given_up() -> None:
    running = replica("a", phase="Running", **placed(PLACE_SECONDS), **container(running={}))
    blocked = replica("b", **container(waiting={"reason": "ErrImagePull", "message": "m"}))
    first, second = late(running, blocked).processes
    assert (first.phase, first.reason) == (ProcessPhase.FAILED, "NeverReady")
    assert second.blocked_since is not None


def test_a_judge_that_a_queue_let_wait_has_its_time_from_then_on() -> None:
    gated = replica("a", conditions=[condition("PodScheduled", "SchedulingGated", "False")])
    admitted = replica("b", phase="Running", **placed(PLACE_SECONDS + 1), **container(running={}))
    first, second = late(gated, admitted).processes
    assert (first.phase, first.blocked_since) == (ProcessPhase.PENDING, None)
    assert second.phase is ProcessPhase.RUNNING


def test_a_quota_is_told_by_the_deployment() -> None:
    refused = condition("ReplicaFailure", "FailedCreate", message="exceeded quota", after=5)
    deployment = told(workload(JUDGE, conditions=[refused]), 7)
    found, _ = observed(Seen((), (deployment,))).children["judge"].processes
    assert (found.reason, found.blocked_since) == ("FailedCreate: exceeded quota", NOW + 7)


def test_a_judge_that_is_being_replaced_does_not_count_but_holds_what_it_holds() -> None:
    leaving = replica("a", deleted=30, **READY)
    assert child_of(JUDGE, leaving).processes[0].phase is ProcessPhase.PENDING
    (left,) = observed(Seen(pods=(leaving,))).children.values()
    assert (left.name, left.node, left.deleting, left.live) == ("judge", "stage/judge", True, True)


# --- Containers beside the step's that do not end.


def with_sidecar(child: Child, index: int = 0, **state: Any) -> Object:
    """A pod that runs on beside its main container."""
    found = pod(child, index, phase="Running", **container(**state))
    found["status"]["containerStatuses"].append({"name": "mesh", "state": {"running": {"startedAt": time()}}})
    return found


DONE: dict[str, Any] = {"terminated": terminated(0, COMMITTED, "Completed")}
WORKS: dict[str, Any] = {"running": {"startedAt": time()}}
TWO = tasks("two", SUCCEED, indexes=2)


def ended_by(job: Object, *pods: Object) -> list[str]:
    return [each["metadata"]["name"] for each in lingering(Seen(jobs=(job,), pods=pods))]


def test_a_step_has_ended_when_its_main_container_has() -> None:
    done = process(ONE, with_sidecar(ONE, **DONE))
    assert (done.phase, done.exit_code) == (ProcessPhase.SUCCEEDED, 0)
    assert done.result
    state = child_of(ONE, with_sidecar(ONE, terminated=terminated(66, USER_FAULT)))
    assert (state.ended, cause_of(state).fault) == (True, Fault.USER)
    assert process(ONE, with_sidecar(ONE, **WORKS)).phase is ProcessPhase.RUNNING


def test_what_goes_on_beside_it_is_ended_then_and_no_earlier() -> None:
    first, second = with_sidecar(TWO, 0, **DONE), with_sidecar(TWO, 1, **DONE)
    assert ended_by(workload(TWO), first, with_sidecar(TWO, 1, **WORKS)) == [], "the Job would stop the other"
    assert ended_by(workload(TWO), first) == [], "the other pod is still to come"
    assert ended_by(workload(TWO), first, second) == ["two-0-x", "two-1-x"]
    crashed = with_sidecar(TWO, 1, terminated=terminated(1))
    assert ended_by(workload(TWO), with_sidecar(TWO, 0, **WORKS), crashed) == ["two-1-x"], (
        "the attempt failed"
    )


def test_a_pod_is_told_once_to_end_and_its_result_stays() -> None:
    told = with_sidecar(ONE, **DONE)
    told["spec"]["activeDeadlineSeconds"] = LINGER_SECONDS
    assert ended_by(workload(ONE), told) == []
    told["status"] |= {"phase": "Failed", "reason": "DeadlineExceeded"}
    job = workload(ONE, conditions=[condition("Failed")])
    (done,) = observed(Seen((job,), (), (told,))).children["one"].processes
    assert (done.phase, done.result is not None) == (ProcessPhase.SUCCEEDED, True)


def test_a_pod_that_its_job_deleted_after_all_had_ended_has_lost_its_result_and_not_failed() -> None:
    told = with_sidecar(TWO, 0, **DONE)
    told["spec"]["activeDeadlineSeconds"] = LINGER_SECONDS
    job = workload(TWO, conditions=[condition("Failed")])
    _, other = observed(Seen((job,), (), (told,))).children["two"].processes
    assert other.reason == PlatformReason.RESULT_LOST


# --- Nodes that do not answer.


def stuck(child: Child, **status: Any) -> Object:
    return pod(child, deleted=30, **{"phase": "Running", **status})


def test_a_pod_that_should_long_be_gone_is_marked_or_removed() -> None:
    late = NOW + 30 + STUCK_SECONDS
    own = Seen(jobs=(workload(ONE),), pods=(stuck(ONE),))
    assert lost(own, late - 1) == ([], [])
    assert lost(own, late) == ([stuck(ONE)], [])
    assert lost(Seen(own.jobs, (), (stuck(ONE, phase="Failed"),)), late) == ([], [])
    assert lost(Seen(pods=own.pods), late) == ([], [stuck(ONE)])
    job = workload(ONE)
    job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert lost(Seen((job,), (), (stuck(ONE, phase="Failed"),)), late) == ([], [stuck(ONE, phase="Failed")])


def bad_hosts(children: list[ChildState]) -> tuple[str, ...]:
    """Machines that a run with these children avoids, a minute later."""
    observed = Observed(children={child.name: child for child in children})
    return avoided(Now(runs.run(), runs.runtime(), observed, RunStatus(), NOW + 120), []).hosts


def test_a_node_that_a_command_around_the_step_finds_sick_is_avoided_at_once() -> None:
    assert bad_hosts([child_of(ONE, failed(75, "xid 79"))]) == ("node-1",)


def test_a_node_that_fails_twice_is_avoided() -> None:
    first, second = (
        child_of(child, pod(child, phase="Failed", reason="NodeLost"))
        for child in (ONE, tasks("two", SUCCEED))
    )
    assert bad_hosts([first]) == ()
    assert bad_hosts([first, second]) == ("node-1",)
