"""What a pod or a process of this machine holds, and since when."""

from typing import Any

import pytest
from make import runs
from make.children import SUCCEED, server, tasks
from make.objects import NOW, Object, condition, container, pod, terminated, time

from ixt_operator.adapters.kubernetes.holding import held
from ixt_operator.adapters.kubernetes.pod import Heard, process_of, replica_of
from ixt_operator.adapters.local import machine

ONE = tasks("one", SUCCEED)
JUDGE = server("judge", "serve()")
SCHEDULED = condition("PodScheduled", after=5)


def asking(*resources: dict[str, Any], **status: Any) -> Object:
    found = pod(ONE, **status)
    found["spec"]["containers"] = [{"resources": each} for each in resources]
    return found


@pytest.mark.parametrize(
    ("resources", "gpus", "cpus"),
    [
        ([{}], 0, 0.0),
        ([{"requests": {"cpu": "500m", "memory": "2Gi"}}], 0, 0.5),
        ([{"limits": {"cpu": 2}}, {"requests": {"cpu": "1.5"}, "limits": {"cpu": "8"}}], 0, 3.5),
        ([{"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "8"}}], 8, 4.0),
        ([{"requests": {"amd.com/gpu": "2"}, "limits": {"amd.com/gpu": "2"}}], 2, 0.0),
        ([{"limits": {"nvidia.com/mig-1g.5gb": 1}}, {"limits": {"gpu.intel.com/i915": 1}}], 2, 0.0),
        ([{"limits": {"google.com/tpu": "4"}}, {"limits": {"habana.ai/gaudi": "8"}}], 12, 0.0),
        ([{"limits": {"gpu.intel.com/millicores": "1000", "example.com/rdma": "1"}}], 0, 0.0),
        ([{"requests": {"cpu": "much"}}], 0, 0.0),
    ],
)
def test_what_containers_ask_for(resources: list[dict[str, Any]], gpus: int, cpus: float) -> None:
    found = held(asking(*resources))
    assert (found["gpus"], found["cpus"]) == (gpus, cpus)


@pytest.mark.parametrize(
    ("status", "since"),
    [
        ({}, None),
        ({"conditions": [condition("PodScheduled", "Unschedulable", "False")]}, None),
        ({"conditions": [SCHEDULED], "startTime": time(6)}, NOW + 5),
        ({"startTime": time(6)}, NOW + 6),
    ],
)
def test_a_pod_holds_its_node_from_when_it_is_scheduled(status: dict[str, Any], since: float | None) -> None:
    assert process_of(0, asking({}, **status), Heard({}, {})).held_since == since


def test_a_step_is_up_from_when_its_container_is_and_keeps_its_times() -> None:
    running = asking(
        {}, phase="Running", conditions=[SCHEDULED], **container(running={"startedAt": time(40)})
    )
    assert process_of(0, running, Heard({}, {})).up_since == NOW + 40
    end = terminated(1, after=90) | {"startedAt": time(40)}
    asked, status = {"limits": {"amd.com/gpu": "1"}}, container(terminated=end)
    failed = asking(asked, phase="Failed", conditions=[SCHEDULED], **status)
    found = process_of(0, failed, Heard({}, {}))
    assert (found.held_since, found.up_since, found.ended_at, found.gpus) == (NOW + 5, NOW + 40, NOW + 90, 1)


def test_a_server_is_up_from_when_it_is_ready() -> None:
    started = container(running={"startedAt": time(40)})
    waits = pod(JUDGE, phase="Running", conditions=[SCHEDULED], **started)
    ready = pod(JUDGE, phase="Running", conditions=[SCHEDULED, condition("Ready", after=300)], **started)
    assert (replica_of(0, waits, Heard({}, {})).held_since, replica_of(0, waits, Heard({}, {})).up_since) == (
        NOW + 5,
        None,
    )
    assert replica_of(0, ready, Heard({}, {})).up_since == NOW + 300


@pytest.mark.parametrize(("visible", "gpus"), [("0,1", 2), ("GPU-1", 1), ("", 0), ("2,-1,3", 1)])
def test_a_process_of_this_machine_holds_what_cuda_would_show_it(
    monkeypatch: pytest.MonkeyPatch, visible: str, gpus: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    train = tasks("train", SUCCEED, indexes=2)
    assert machine.held(train)["gpus"] == gpus
    assert machine.held(tasks("prepare", SUCCEED))["gpus"] == 0
    assert machine.held(JUDGE)["gpus"] == gpus
    own = train.model_copy(
        update={"patches": (runs.patch(env=[{"name": "CUDA_VISIBLE_DEVICES", "value": "7"}]),)}
    )
    assert machine.held(own)["gpus"] == 1


def test_processes_of_a_child_share_the_processors_of_this_machine() -> None:
    alone, shared = (machine.held(tasks("train", SUCCEED, indexes=n))["cpus"] for n in (1, 4))
    assert alone == 4 * shared >= 1
