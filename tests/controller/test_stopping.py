"""Whatever is wrong with a run, it says so, and it stops when it is to stop."""

import time
from contextlib import suppress
from typing import Any

import pytest
from make.looking import PLACE, Operator
from make.objects import NOW

from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, JOBS, RUNS, RUNTIMES, ApiError
from ixt_operator.controller.queue import Retry

CONFIG = CONFIG_MAPS.path("default", "rubric")
RUBRIC = "{instructions: Score it., idealCritique: Good., worstCritique: Bad.}"


def _no_runtime(operator: Operator, _: pytest.MonkeyPatch) -> None:
    operator.cache.drop(RUNTIMES, operator.cache.all(RUNTIMES)[0])


def _no_rubric(operator: Operator, _: pytest.MonkeyPatch) -> None:
    operator.api.objects.pop(CONFIG)


def _no_role(operator: Operator, _: pytest.MonkeyPatch) -> None:
    (runtime,) = operator.cache.all(RUNTIMES)
    metadata = {**runtime["metadata"], "resourceVersion": "1000"}
    roles = [role for role in runtime["spec"]["roles"] if role["name"] != "Trainer"]
    operator.cache.put(RUNTIMES, {**runtime, "metadata": metadata, "spec": {"roles": roles}})


def _of_another_version(operator: Operator, _: pytest.MonkeyPatch) -> None:
    operator.edit(ofAnotherVersion=True)


def _fault_of_ours(_: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("ixt_operator.controller.look.plan", broken)


TROUBLES = {
    "RuntimeNotFound": (_no_runtime, "there is no IXTRuntime cpu"),
    "ReferenceNotFound": (_no_rubric, "ConfigMap rubric does not exist"),
    "RuntimeInvalid": (_no_role, "lacks the role Trainer"),
    "InvalidSpec": (_of_another_version, "spec.ofAnotherVersion"),
    "OperatorError": (_fault_of_ours, "ZeroDivisionError: a fault"),
}


@pytest.fixture(params=TROUBLES)
async def reason(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def operator(reason: str, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """One whose run has a Job, and since then the trouble."""
    found = await _running()
    TROUBLES[reason][0](found, monkeypatch)
    if reason in ("RuntimeNotFound", "ReferenceNotFound", "RuntimeInvalid"):
        found.edit(maxParallelLanes=2)  # until then it goes on with what it was started with
    return found


async def _running(**spec: Any) -> Operator:
    judge = {"model": "file:///judge", "rubric": {"configMapKeyRef": {"name": "rubric"}}}
    found = Operator(judge=judge, **spec)
    config = {"metadata": {"name": "rubric", "namespace": "default"}, "data": {"rubric.yaml": RUBRIC}}
    found.api.put(config, CONFIG)
    await found.look()
    assert len(found.cache.all(JOBS)) == 1
    return found


async def _look(operator: Operator, reason: str) -> None:
    if reason == "OperatorError":
        with pytest.raises(Retry, match="a fault"):
            await operator.look()
    else:
        await operator.look()


def _jobs(operator: Operator) -> list[str]:
    """Jobs that are not being deleted."""
    return [
        path
        for path, each in operator.api.objects.items()
        if "/jobs/" in path and "deletionTimestamp" not in each["metadata"]
    ]


async def test_what_is_wrong_is_told_at_once_and_what_runs_goes_on(operator: Operator, reason: str) -> None:
    await _look(operator, reason)
    said = TROUBLES[reason][1]
    accepted, progressing = operator.condition("Accepted"), operator.condition("Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", reason)
    assert said in progressing["message"]
    assert accepted["status"] == ("True" if reason == "OperatorError" else "False")
    status = operator.api.objects[PLACE]["status"]
    assert said in status["summary"]["message"]
    assert status["phase"] == "Running"
    (warning,) = [each for each in operator.events() if each[0] == "Warning"]
    assert warning[1] == reason
    assert said in warning[2]
    assert len(_jobs(operator)) == 1
    # And once only.
    operator.api.calls.clear()
    await _look(operator, reason)
    assert {method for method, _ in operator.api.calls} <= {"GET"}


async def test_it_can_be_suspended(operator: Operator, reason: str) -> None:
    operator.suspend()
    await _look(operator, reason)
    assert not _jobs(operator)
    operator.collect()
    await _look(operator, reason)
    assert operator.api.objects[PLACE]["status"]["phase"] == "Suspended"
    assert operator.condition("Suspended")["status"] == "True"
    assert operator.condition("Progressing")["status"] == "False"


async def test_its_deadline_ends_it(operator: Operator, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.edit(activeDeadlineSeconds=600)
    later = NOW + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    await _look(operator, reason)
    assert not _jobs(operator)
    failed = operator.condition("Failed")
    assert (failed["status"], failed["reason"]) == ("True", "DeadlineExceeded")
    assert TROUBLES[reason][1] in failed["message"]
    assert operator.condition("Progressing")["status"] == "False"


@pytest.mark.parametrize("cascade", ["foregroundDeletion", "orphan", "of.others/finalizer"])
async def test_its_deletion_stops_it(operator: Operator, cascade: str) -> None:
    run = operator.api.objects[PLACE]
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [cascade]}
    leaving = operator.api.put({**run, "metadata": {**run["metadata"], **gone}}, PLACE)
    operator.cache.put(RUNS, leaving)
    await operator.look()
    assert bool(_jobs(operator)) is (cascade == "orphan")
    assert operator.api.objects[PLACE] == leaving


async def test_no_number_of_an_attempt_is_given_twice(operator: Operator, reason: str) -> None:
    """Its Job was made just now, and its status lost."""
    run = {name: value for name, value in operator.api.objects[PLACE].items() if name != "status"}
    operator.cache.put(RUNS, operator.api.put(run, PLACE))
    operator.suspend()
    await _look(operator, reason)
    assert operator.api.objects[PLACE]["status"]["internal"]["lastAttempt"] == 1


async def test_what_still_runs_of_a_run_that_has_ended_is_stopped_without_its_runtime() -> None:
    operator = await _running()
    operator.finish(ttl=3600)
    _no_runtime(operator, pytest.MonkeyPatch())
    await operator.look()
    assert not _jobs(operator)


@pytest.mark.parametrize("status", [403, 422])
async def test_a_status_that_is_refused_keeps_nothing_from_being_stopped(status: int) -> None:
    operator = await _running()
    operator.suspend()
    operator.api.refused["PUT", "ixtruns"] = ApiError(status, "Invalid", "ixtruns/status is refused")
    with pytest.raises(Retry, match="is refused"):
        await operator.look()
    assert not _jobs(operator)


@pytest.mark.parametrize(
    ("method", "resource", "status"),
    [
        ("POST", "events", 403),
        ("POST", "events", 500),
        ("GET", "configmaps", 403),
        ("GET", "configmaps", 500),
    ],
)
async def test_what_cannot_be_read_or_posted_keeps_nothing_from_being_stopped(
    method: str, resource: str, status: int
) -> None:
    operator = await _running()
    operator.suspend()
    operator.restart()
    operator.api.refused[method, resource] = ApiError(status, "Sick", f"{resource} are sick")
    for _ in range(2):
        with suppress(Retry):
            await operator.look()
    assert not _jobs(operator)


async def test_a_run_goes_on_once_the_trouble_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = await _running()
    with monkeypatch.context() as patch:
        _fault_of_ours(operator, patch)
        await _look(operator, "OperatorError")
    await operator.look()
    progressing = operator.condition("Progressing")
    assert (progressing["status"], progressing["reason"]) == ("True", "StepsWaiting")
    assert "message" not in operator.api.objects[PLACE]["status"]["summary"]


async def test_an_edit_of_a_run_that_had_ended_shows_no_end_beside_its_trouble() -> None:
    operator = await _running()
    operator.finish(ttl=3600)
    _no_runtime(operator, pytest.MonkeyPatch())
    operator.edit(maxParallelLanes=2)
    await operator.look()
    assert [operator.condition(type_)["status"] for type_ in ("Accepted", "Complete", "Failed")] == [
        "False"
    ] * 3
