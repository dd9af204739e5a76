"""Times are compared by the API server's clock, whatever this machine's and those of nodes say."""

import time
from email.utils import formatdate
from typing import Any

import pytest
from make.children import SUCCEED, server, tasks
from make.objects import NOW, condition, container, pod, terminated, told, workload
from make.objects import time as at

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import DEPLOYMENTS, JOBS, PODS, RUNS, Client, Object
from ixt_operator.adapters.kubernetes.translate import Seen, observed, unexplained

ONE = tasks("one", SUCCEED)


class Server:
    """Answers every request with an object, and its time with seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    async def param_serialize(self, *_: Any, **__: Any) -> tuple[()]:
        return ()

    async def call_api(self, *_: Any, **__: Any) -> "Server":
        return self

    async def read(self) -> bytes:
        return b"{}"

    status = 200

    @property
    def headers(self) -> dict[str, str]:
        return {"Date": formatdate(time.time() + self.ahead, usegmt=True)}


@pytest.mark.parametrize(("ahead", "seen"), [(0.0, 0.0), (120.0, 120.0), (-3600.0, -3600.0), (1.0, 0.0)])
async def test_the_clock_is_the_api_servers(
    monkeypatch: pytest.MonkeyPatch, ahead: float, seen: float
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    server: Any = Server()
    client = Client(server)
    assert client.now() == NOW
    server.ahead = ahead
    await client.get(RUNS, "default", "test")
    assert client.now() == pytest.approx(NOW + seen, abs=1)
    # Either clock is set right.
    server.ahead = 0.0
    await client.get(RUNS, "default", "test")
    assert client.now() == pytest.approx(NOW, abs=1)


def test_a_pod_is_over_when_the_api_server_was_told_so() -> None:
    """Its node's clock is two minutes behind."""
    ended = pod(ONE, phase="Failed", **container(terminated=terminated(1, after=-60)))
    cache = Cache()
    cache.put(PODS, told(ended, 60))
    (seen,) = cache.all(PODS)
    (process,) = observed(Seen((workload(ONE),), (), (seen,))).children["one"].processes
    assert (process.ended_at, process.over_at) == (NOW - 60, NOW + 60)
    assert "fieldsV1" not in str(seen["metadata"])


def test_a_job_whose_pods_are_gone_is_over_when_the_api_server_was_told_so() -> None:
    condition = {"type": "Failed", "status": "True", "lastTransitionTime": at(-60)}
    cache = Cache()
    cache.put(JOBS, told(workload(ONE, conditions=[condition]), 60))
    (process,) = observed(Seen(tuple(cache.all(JOBS)))).children["one"].processes
    assert process.over_at == NOW + 60


OFF = 120.0
"""Seconds by which the clocks of nodes and controllers are off."""


def cached(
    jobs: tuple[Object, ...] = (), judges: tuple[Object, ...] = (), pods: tuple[Object, ...] = ()
) -> Seen:
    """Objects as the operator keeps them."""
    cache = Cache()
    for resource, found in ((JOBS, jobs), (DEPLOYMENTS, judges), (PODS, pods)):
        for manifest in found:
            cache.put(resource, manifest)
    return Seen(tuple(cache.all(JOBS)), tuple(cache.all(DEPLOYMENTS)), tuple(cache.all(PODS)))


@pytest.mark.parametrize("off", [-OFF, OFF])
def test_how_long_something_waits_does_not_hang_on_the_clocks_of_who_says_so(off: float) -> None:
    """Scheduler, controllers and kubelet write times of their own; all this was in the first ten seconds."""
    waits = pod(ONE, conditions=[condition("PodScheduled", "Unschedulable", "False", "no node", 2 + off)])
    (process,) = observed(cached((workload(ONE),), pods=(waits,))).children["one"].processes
    assert process.blocked_since == NOW

    ungated = told(waits, 9)
    ungated["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    (process,) = observed(cached((workload(ONE),), pods=(ungated,))).children["one"].processes
    assert process.blocked_since == NOW + 9

    assert [each.since for each in unexplained(cached((workload(ONE, startTime=at(1 + off)),)))] == [NOW]
    resumed = told(
        workload(ONE, startTime=at(5 + off), conditions=[condition("Suspended", status="False")]), 5
    )
    assert [each.since for each in unexplained(cached((resumed,)))] == [NOW + 5]

    placed = {"conditions": [condition("PodScheduled", after=3)], "startTime": at(3 + off)}
    creating = pod(ONE, **placed, **container(waiting={"reason": "ContainerCreating"}))
    assert [each.since for each in unexplained(cached((workload(ONE),), pods=(creating,)))] == [NOW + 3]


@pytest.mark.parametrize("off", [-OFF, OFF])
@pytest.mark.parametrize(("placed_after", "phase"), [(60, "Failed"), (61, "Running")])
def test_a_judge_has_its_time_whatever_the_clocks_of_its_node_and_controller(
    off: float, placed_after: float, phase: str
) -> None:
    judge = server("judge", "serve()")
    given = workload(judge)["spec"]["progressDeadlineSeconds"]
    exceeded = condition("Progressing", "ProgressDeadlineExceeded", "False", after=given - off)
    deployment = told(workload(judge, conditions=[exceeded]), given)
    placed = {
        "conditions": [condition("PodScheduled", after=placed_after)],
        "startTime": at(placed_after + off),
    }
    starts = pod(judge, phase="Running", **placed, **container(running={}))
    (process,) = observed(cached(judges=(deployment,), pods=(starts,))).children["judge"].processes
    assert process.phase == phase


@pytest.mark.parametrize("off", [-OFF, OFF])
def test_a_judge_is_ready_since_the_api_server_was_told_so(off: float) -> None:
    judge = server("judge", "serve()")
    last = {"terminated": {"exitCode": 1, "startedAt": at(off), "finishedAt": at(50 + off)}}
    running = container(running={"startedAt": at(60 + off)}, restarts=1, last=last)
    ready = told(pod(judge, phase="Running", conditions=[condition("Ready", after=90 + off)], **running), 90)
    (process,) = observed(cached(judges=(workload(judge),), pods=(ready,))).children["judge"].processes
    assert (process.ready_since, process.lasted) == (NOW + 90, 50)
