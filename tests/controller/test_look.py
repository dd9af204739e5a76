"""Looks at a run on a cluster that does not go along."""

import logging
import time
from functools import partial
from typing import Any

import pytest
from make import runs
from make.children import server
from make.looking import PLACE, Operator
from make.objects import condition

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, JOBS, RUNS, RUNTIMES, ApiError
from ixt_operator.adapters.kubernetes.explaining import Explainer
from ixt_operator.adapters.kubernetes.platform import KubernetesPlatform
from ixt_operator.adapters.port import Refused
from ixt_operator.api.run import KEEP_CHILDREN, IXTRun
from ixt_operator.controller.queue import Behind, Retry
from ixt_operator.controller.writing import _post
from ixt_operator.planner.events import Event
from ixt_operator.render.render import render


@pytest.fixture
def operator() -> Operator:
    return Operator()


async def test_a_look_makes_a_child_and_says_so(operator: Operator) -> None:
    await operator.look()
    assert len(operator.cache.all(JOBS)) == 1
    assert operator.api.objects[PLACE]["status"]["phase"] == "Running"


async def test_the_log_tells_what_happens_to_a_run(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ixt.run"):
        for _ in range(3):
            await operator.look()
        operator.suspend()
        await operator.look()
        operator.collect()
        await operator.look()
    assert caplog.messages == [
        "default/test: StepStarted: pretrain/inventory",
        "default/test: SuspendedByUser: nothing runs; go on with: kubectl ixt resume test",
    ]


async def test_a_run_starts_before_it_says_so(operator: Operator) -> None:
    assert isinstance(await operator.look_once(), Behind)
    assert len(operator.cache.all(JOBS)) == 1
    assert "status" not in operator.api.objects[PLACE]
    operator.api.calls.clear()
    await operator.look()
    assert [method for method, _ in operator.api.calls] == ["PUT", "POST"]
    assert operator.api.objects[PLACE]["status"]["phase"] == "Running"


@pytest.mark.parametrize("cleared", [False, True])
async def test_who_knows_no_status_finds_the_job_and_when_it_began(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, cleared: bool
) -> None:
    """Another leader, or one that somebody took the status away from."""
    await (operator.look() if cleared else operator.look_once())
    (job,) = operator.cache.all(JOBS)
    run = {name: value for name, value in operator.api.objects[PLACE].items() if name != "status"}
    operator.cache.put(RUNS, operator.api.put(run, PLACE))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    await operator.look()
    assert operator.cache.all(JOBS) == [job]
    assert operator.api.objects[PLACE]["status"]["startTime"] == job["metadata"]["creationTimestamp"]


async def test_a_later_job_is_told_by_the_look_at_once_after_its_own(operator: Operator) -> None:
    await operator.look()
    operator.suspend()
    await operator.look()
    operator.collect()
    await operator.look()
    operator.suspend(False)
    operator.api.calls.clear()
    assert await operator.look_once() == 0.0
    assert ("PUT", "ixtruns/test/status") not in operator.api.calls
    (job,) = operator.cache.all(JOBS)
    assert job["metadata"]["name"].endswith("-2")
    operator.api.calls.clear()
    await operator.look()
    assert [method for method, _ in operator.api.calls] == ["PUT", "POST"]
    assert operator.api.objects[PLACE]["status"]["phase"] == "Running"


@pytest.mark.parametrize("left", ["its data", "other data"])
async def test_a_job_that_is_not_seen_is_not_planned_again_at_once(operator: Operator, left: str) -> None:
    """Its labels were taken away, so that no look finds it; its ConfigMap may be another by now."""
    await operator.look_once()
    (job,) = operator.cache.all(JOBS)
    name = job["metadata"]["name"]
    place, config = JOBS.path("default", name), CONFIG_MAPS.path("default", name)
    operator.cache.put(JOBS, operator.api.put({**job, "metadata": {**job["metadata"], "labels": {}}}, place))
    if left == "other data":
        operator.api.put({**operator.api.objects[config], "data": {}, "binaryData": {}}, config)
    with pytest.raises(Retry, match=f"Job {name} was created, but is not seen as a child of the run"):
        await operator.look_once()
    assert [each for each in operator.api.objects if "/jobs/" in each] == [place]


async def test_a_job_that_the_cache_does_not_have_yet_is_taken_into_it(operator: Operator) -> None:
    await operator.look_once()
    (job,) = operator.cache.all(JOBS)
    operator.cache = Cache()
    for resource, path in ((RUNS, PLACE), (RUNTIMES, RUNTIMES.path("", "cpu"))):
        operator.cache.put(resource, operator.api.objects[path])
    operator.restart()
    config = CONFIG_MAPS.path("default", job["metadata"]["name"])
    operator.api.put({**operator.api.objects[config], "data": {}, "binaryData": {}}, config)
    await operator.look()
    assert operator.cache.all(JOBS) == [job]
    assert operator.api.objects[PLACE]["status"]["phase"] == "Running"


async def test_a_run_that_is_suspended_before_it_said_so_says_that(operator: Operator) -> None:
    await operator.look_once()
    operator.suspend()
    await operator.look()
    assert ("DELETE", "jobs") in {(method, path.partition("/")[0]) for method, path in operator.api.calls}
    assert operator.api.objects[PLACE]["status"]["phase"] == "Suspended"


async def test_a_run_whose_end_nobody_told_is_found_out_by_its_look_once(operator: Operator) -> None:
    del operator.api.objects[PLACE]
    with pytest.raises(Retry):
        await operator.look()
    assert operator.known is None
    operator.api.calls.clear()
    operator.collect()
    assert await operator.look() is None
    assert operator.api.calls == []


async def test_a_run_that_took_its_name_is_looked_at_instead(operator: Operator) -> None:
    other = runs.manifest()
    other["metadata"]["uid"] = "uid-other"
    operator.api.put(other, PLACE)
    with pytest.raises(Retry):
        await operator.look()
    assert operator.known
    assert operator.known["metadata"]["uid"] == "uid-other"
    operator.collect()
    await operator.look()
    assert operator.api.objects[PLACE]["status"]["phase"] == "Running"
    (job,) = operator.cache.all(JOBS)
    assert job["metadata"]["ownerReferences"][0]["uid"] == "uid-other"
    assert job["metadata"]["name"].endswith("-1")


async def test_an_edit_that_came_in_between_is_read(operator: Operator) -> None:
    edited = operator.api.objects[PLACE]
    operator.api.put({**edited, "spec": {**edited["spec"], "suspend": True}}, PLACE)
    with pytest.raises(Retry):
        await operator.look()
    assert operator.known
    assert operator.known["spec"]["suspend"]


async def test_what_the_api_server_refuses_is_one_line_in_the_log(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.api.refused["POST", "jobs"] = ApiError(403, "Forbidden", "exceeded quota: no-jobs")
    with caplog.at_level(logging.DEBUG), pytest.raises(Retry, match="exceeded quota: no-jobs"):
        await operator.look()
    (line,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert "default/test" in line.getMessage()
    assert "exceeded quota: no-jobs" in line.getMessage()
    assert "exceeded quota" in operator.api.objects[PLACE]["status"]["summary"]["message"]


async def test_a_create_that_fails_is_told_while_it_does(operator: Operator) -> None:
    operator.api.refused["POST", "jobs"] = ApiError(500, "InternalError", "the webhook did not answer")
    with pytest.raises(Retry, match="the webhook did not answer"):
        await operator.look()
    assert "the webhook did not answer" in operator.api.objects[PLACE]["status"]["summary"]["message"]


async def test_a_runtime_that_lacks_a_role_is_told_before_anything_starts(operator: Operator) -> None:
    runtime = runs.runtime().model_dump(mode="json", by_alias=True, exclude_none=True)
    runtime["metadata"] |= {"uid": "uid-less", "resourceVersion": "1000"}
    runtime["spec"]["roles"] = [role for role in runtime["spec"]["roles"] if role["name"] != "Trainer"]
    operator.cache.drop(RUNTIMES, operator.cache.all(RUNTIMES)[0])
    operator.cache.put(RUNTIMES, runtime)
    await operator.look()
    assert not operator.cache.all(JOBS)
    accepted = operator.api.objects[PLACE]["status"]["conditions"][0]
    assert (accepted["type"], accepted["status"]) == ("Accepted", "False")
    assert "IXTRuntime cpu lacks the role Trainer" in accepted["message"]


async def test_a_foreign_object_under_a_childs_name_is_one_line_in_the_log(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    twin = Operator()
    await twin.look()
    (job,) = twin.cache.all(JOBS)
    name = job["metadata"]["name"]
    foreign = {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
    operator.api.put(foreign, CONFIG_MAPS.path("default", name))
    with caplog.at_level(logging.DEBUG), pytest.raises(Retry, match="delete or rename it"):
        await operator.look()
    warnings = [line for line in caplog.records if line.levelname != "INFO"]
    assert [(line.levelname, line.exc_info) for line in warnings] == [("WARNING", None)]


async def test_a_fault_of_our_own_shows_where_it_is(
    operator: Operator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("ixt_operator.controller.look.plan", broken)
    with pytest.raises(Retry, match="a fault"):
        await operator.look()
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("changed", ["gone", "leaving", "another", "edited"])
async def test_what_is_dangerous_is_not_done_to_a_run_that_is_another_by_now(
    operator: Operator, changed: str
) -> None:
    """The cache says that it is suspended, which deletes its Job."""
    await operator.look()
    manifest, suspended = operator.api.objects[PLACE], operator.suspend()
    metadata = manifest["metadata"]
    match changed:
        case "gone":
            del operator.api.objects[PLACE]
        case "leaving":
            leaving = {**metadata, "generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z"}
            operator.api.put({**suspended, "metadata": leaving}, PLACE)
        case "another":
            operator.api.put({**suspended, "metadata": {**metadata, "uid": "uid-other"}}, PLACE)
        case "edited":
            operator.api.put({**manifest, "metadata": {**metadata, "generation": 3}}, PLACE)
    operator.api.calls.clear()
    assert await operator.look_once() == 0.0
    assert {method for method, _ in operator.api.calls} == {"GET"}


async def test_what_is_still_told_of_a_run_does_not_hide_the_one_that_took_its_name(
    operator: Operator,
) -> None:
    first = operator.api.objects[PLACE]
    late = operator.api.put({**first, "metadata": {**first["metadata"], "labels": {"a": "b"}}}, PLACE)
    second = operator.api.put({**first, "metadata": {**first["metadata"], "uid": "uid-other"}}, PLACE)
    with pytest.raises(Retry):
        await operator.look()
    assert not operator.cache.put(RUNS, late)
    operator.cache.drop(RUNS, late)
    operator.cache.put(RUNS, second)
    assert operator.known
    assert operator.known["metadata"]["uid"] == "uid-other"


async def test_labels_that_change_all_the_time_keep_nothing_from_being_done(operator: Operator) -> None:
    await operator.look()
    suspended = operator.suspend()
    operator.api.put({**suspended, "metadata": {**suspended["metadata"], "labels": {"a": "b"}}}, PLACE)
    await operator.look()
    assert ("DELETE", "jobs") in {(method, path.partition("/")[0]) for method, path in operator.api.calls}
    assert operator.api.objects[PLACE]["metadata"]["labels"] == {"a": "b"}


async def test_a_service_that_is_refused_to_a_judge_is_told(operator: Operator) -> None:
    await operator.look()
    child = server("judge", "serve()")
    run, runtime = IXTRun.model_validate(runs.manifest()), runs.runtime()
    rendered = partial(render, run, runtime)
    explainer = Explainer(operator.api, operator.cache, lambda *_: None)
    platform = KubernetesPlatform(operator.api, operator.cache, run.metadata, {}, explainer, rendered)
    operator.api.refused["PATCH", "services"] = ApiError(403, "Forbidden", "exceeded quota")
    with pytest.raises(Refused, match="cannot be started: exceeded quota"):
        await platform.scale(child)


async def test_a_finished_run_whose_runtime_is_gone_stays_as_it_is_until_its_time_is_over(
    operator: Operator,
) -> None:
    (runtime,) = operator.cache.all(RUNTIMES)
    operator.cache.drop(RUNTIMES, runtime)
    before = operator.finish(ttl=3600)
    assert await operator.look() == pytest.approx(3540, abs=30)
    assert operator.api.objects[PLACE] == before
    over = operator.finish(ttl=30)
    over["spec"]["ofAnotherVersion"] = True
    operator.cache.put(RUNS, operator.api.put(over, PLACE))
    assert await operator.look() is None
    assert "deletionTimestamp" in operator.api.objects[PLACE]["metadata"]


async def test_a_finished_run_that_was_edited_is_not_deleted_on_an_old_look(operator: Operator) -> None:
    finished = operator.finish(ttl=30)
    edited = {**finished["metadata"], "generation": 2}
    operator.api.put({**finished, "metadata": edited}, PLACE)
    with pytest.raises(Retry):
        await operator.look()
    assert "deletionTimestamp" not in operator.api.objects[PLACE]["metadata"]
    await operator.look()
    assert operator.api.objects[PLACE]["status"]["phase"] == "Running"


async def test_an_edit_of_a_finished_run_that_cannot_be_taken_up_yet_is_taken_up_later(
    operator: Operator,
) -> None:
    finished = operator.finish(ttl=3600)
    edited = {**finished, "metadata": {**finished["metadata"], "generation": 2}}
    operator.cache.put(RUNS, operator.api.put(edited, PLACE))
    (runtime,) = operator.cache.all(RUNTIMES)
    operator.cache.drop(RUNTIMES, runtime)
    await operator.look()
    status = operator.api.objects[PLACE]["status"]
    assert "there is no IXTRuntime cpu" in status["summary"]["message"]
    operator.cache.put(RUNTIMES, operator.api.put(runtime, RUNTIMES.path("", "cpu")))
    await operator.look()
    assert operator.api.objects[PLACE]["status"]["phase"] == "Running"


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (
            {"model": "file:///judge", "engine": {"args": ["--trust-remote-code"]}},
            "spec.judge.engine.args.0: --trust-remote-code loads code: only an administrator may set it, in "
            "the engineArgs of an IXTRuntime",
        ),
        (
            {"model": "file:///judge", "engine": {"max_replicas": 2}},
            "spec.judge.engine.max_replicas: Extra inputs are not permitted; the API server let it pass: are "
            "CRDs and operator of one version?",
        ),
        (
            {"model": "file:///judge", "rubric": {"configMapKeyRef": {"name": "rubric"}}},
            "spec.judge.rubric.configMapKeyRef: ConfigMap rubric, key rubric.yaml: idealCritique: Field "
            "required; ideal_critique: Extra inputs are not permitted",
        ),
    ],
)
async def test_what_the_api_server_lets_pass_is_not_accepted(
    operator: Operator, judge: dict[str, Any], said: str
) -> None:
    rubric = "{instructions: Score it., ideal_critique: Good., worstCritique: Bad.}"
    config = {"metadata": {"name": "rubric", "namespace": "default"}, "data": {"rubric.yaml": rubric}}
    operator.api.put(config, CONFIG_MAPS.path("default", "rubric"))
    operator.cache.put(RUNS, operator.api.put(runs.manifest(judge=judge), PLACE))
    await operator.look()
    (accepted,) = (
        each for each in operator.api.objects[PLACE]["status"]["conditions"] if each["type"] == "Accepted"
    )
    assert (accepted["status"], accepted["reason"], accepted["message"]) == ("False", "InvalidSpec", said)


async def test_an_edit_of_the_runtime_stops_nothing_and_is_told_in_condition_and_event(
    operator: Operator,
) -> None:
    await operator.look()
    jobs = operator.cache.all(JOBS)
    (runtime,) = operator.cache.all(RUNTIMES)
    edited = {**runtime, "spec": {**runtime["spec"], "engineArgs": ["--seed=1"]}}
    operator.cache.put(RUNTIMES, operator.api.put(edited, RUNTIMES.path("", "cpu")))
    await operator.look()
    assert operator.cache.all(JOBS) == jobs
    accepted = operator.api.objects[PLACE]["status"]["conditions"][0]
    assert (accepted["status"], accepted["reason"]) == ("True", "ReferencesChanged")
    assert accepted["message"].startswith("IXTRuntime cpu changed; the run goes on with what it was started ")
    (event,) = (each for each in operator.api.objects.values() if each.get("reason") == "ReferencesChanged")
    assert (event["type"], event["message"]) == ("Normal", accepted["message"])
    operator.cache.drop(RUNTIMES, edited)
    await operator.look()
    assert operator.cache.all(JOBS) == jobs
    status = operator.api.objects[PLACE]["status"]
    assert status["phase"] == "Running"
    assert "there is no IXTRuntime cpu" in status["conditions"][0]["message"]


@pytest.mark.parametrize("keep", ["", "false", "true"])
async def test_what_a_finished_run_has_made_goes_unless_it_is_to_stay(operator: Operator, keep: str) -> None:
    await operator.look()
    (job,) = operator.cache.all(JOBS)
    place = JOBS.path("default", job["metadata"]["name"])
    ended = {**operator.api.objects[place], "status": {"conditions": [condition("Complete")]}}
    operator.cache.put(JOBS, operator.api.put(ended, place))
    run = operator.api.objects[PLACE]
    operator.api.put({**run, "metadata": {**run["metadata"], "annotations": {KEEP_CHILDREN: keep}}}, PLACE)
    finished = operator.finish(ttl=None)
    await operator.look()
    left = {path for path, each in operator.api.objects.items() if "ownerReferences" in each["metadata"]}
    (job,) = (each for path, each in operator.api.objects.items() if "/jobs/" in path)
    if keep == "true":
        assert "deletionTimestamp" not in job["metadata"]
        assert len(left) == 3, "its ConfigMap and what the run was started with as well"
    else:
        assert "deletionTimestamp" in job["metadata"], "the garbage collector takes it with its pods"
        (started,) = left - {JOBS.path("default", job["metadata"]["name"])}
        assert started.startswith(CONFIG_MAPS.path("default", "test.started-1-"))
    assert operator.api.objects[PLACE] == finished
    operator.api.calls.clear()
    operator.collect()
    await operator.look()
    assert operator.api.calls == [], "a thousand of them are looked at after every takeover"


@pytest.mark.parametrize(
    ("own", "default", "gone"), [(None, 30, True), (3600, 30, False), (None, None, False)]
)
async def test_a_run_that_sets_no_time_to_live_has_the_operators(
    operator: Operator, own: int | None, default: int | None, gone: bool
) -> None:
    operator.restart(default)
    operator.finish(ttl=own)
    await operator.look()
    assert ("deletionTimestamp" in operator.api.objects[PLACE]["metadata"]) is gone


async def test_what_is_about_an_attempt_or_a_key_is_told_once_whatever_is_edited(operator: Operator) -> None:
    run = operator.api.objects[PLACE]

    def told(reason: str) -> int:
        return sum(each.get("reason") == reason for each in operator.api.objects.values())

    for generation in (1, 2):
        edited = {**run, "metadata": {**run["metadata"], "generation": generation}}
        for reason in ("AttemptFailed", "StepComplete", "SuspendedByUser"):
            await _post(
                operator.api, edited, Event(False, reason, "pretrain/train/plain: pod a, container main")
            )
    assert [told(each) for each in ("AttemptFailed", "StepComplete", "SuspendedByUser")] == [1, 1, 2]


async def test_a_run_that_another_controller_carries_out_is_left_alone(operator: Operator) -> None:
    run = operator.api.objects[PLACE]
    spec = {**run["spec"], "managedBy": "kueue.x-k8s.io/multikueue"}
    operator.cache.put(RUNS, operator.api.put({**run, "spec": spec}, PLACE))
    operator.api.calls.clear()
    assert await operator.look() is None
    assert operator.api.calls == []
