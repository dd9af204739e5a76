"""Pods of a training that find each other, whenever they are scheduled."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from make.training import train_task

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.train import meeting
from ixt_workloads.store import open_store

LEADER, PEERS = "a-0.a.space.svc", "a.space.svc"


class Names:
    """A DNS that tells of one pod more at each look, and a clock that sleeping moves."""

    def __init__(self, patch: pytest.MonkeyPatch, addresses: Iterator[int], family: int = 1) -> None:
        self.now, self.families = 0.0, (socket.AF_INET, socket.AF_INET6)[:family]
        self._addresses = addresses
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(time, "sleep", self._sleep)
        patch.setattr(socket, "getaddrinfo", self._lookup)
        patch.setenv("IXT_LEADER", f"{LEADER}:29500")
        patch.setenv("IXT_PEERS", PEERS)

    def _sleep(self, seconds: float) -> None:
        self.now += 3600 * seconds

    def _lookup(self, host: str, port: None) -> list[Any]:
        there = next(self._addresses) if host == PEERS else 1
        if not there:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (family, kind, 6, "", (f"{family}-{number}", 0))
            for number in range(there)
            for family in self.families
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        ]


@pytest.fixture
def step(tmp_path: Any) -> Step:
    task = train_task(tmp_path).model_copy(update={"indexes": 4})
    return Step(task=task, index=0, store=open_store(task.storage), reporter=Reporter())


@pytest.mark.parametrize("families", [1, 2])
def test_the_first_pod_waits_days_for_the_last(
    step: Step, monkeypatch: pytest.MonkeyPatch, families: int
) -> None:
    names = Names(monkeypatch, iter([1] * 40 + [3] * 40 + [4]), families)
    assert meeting.leader(step) == f"{LEADER}:29500"
    assert names.now == 80 * 3600
    assert step.reporter.progress().message == "waits for 1 of its 4 pods to be scheduled"


def test_a_dns_that_knows_none_of_them_is_no_reason_to_wait(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, iter([0] * 9))
    with pytest.raises(StepError, match=f"{PEERS}, by which .* does not resolve") as error:
        meeting.leader(step)
    assert error.value.code is Exit.UNAVAILABLE
