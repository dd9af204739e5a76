"""What Prometheus reads of runs and steps at the operator."""

import json
from collections import Counter
from typing import Any

import pytest
from make.exposed import START, Cluster, Exposed, conditions, read, step

from ixt_operator.adapters.kubernetes.client import JOBS, PODS, RUNS
from ixt_operator.controller import exporter
from ixt_operator.controller.poll import Progresses
from ixt_operator.controller.scrape import RunSeries
from ixt_workloads.contract import metrics as names
from ixt_workloads.contract.results import Progress

DOCUMENTS, LOSS, TOKENS = names.DOCUMENTS.name, names.LOSS.name, names.TOKEN_RATE.name
TRAIN = {"kind": "Train", "stage": "pretrain", "arm": "plain", "seed": "0"}
ANNOTATE = {"kind": "Annotate", "stage": "pretrain", "part": "0-30"}
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Scraper:
    """An operator's series over a cluster, from one scrape to the next."""

    def __init__(self, cluster: Cluster) -> None:
        self.refused: Counter[str] = Counter()
        self.series = RunSeries(cluster.cache, cluster.progress, cluster.positions, self.refused.update)

    def scrape(self, after: float = 0.0, accept: str = "") -> Exposed:
        body, _ = exporter.exposition(lambda: self.series.lines(START + after), accept)
        return read(body)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def scraper(cluster: Cluster) -> Scraper:
    return Scraper(cluster)


def counted(number: float, **others: Any) -> Progress:
    return Progress(done=number, figures={DOCUMENTS: {"Ok": number}, **others})


# Runs


def test_what_a_status_says_is_there_under_its_name(cluster: Cluster, scraper: Scraper) -> None:
    cluster.run(
        spec={"queueName": "gpus"},
        conditions=conditions(Accepted=("True", "Valid"), Complete=("False", "RunNotComplete")),
        summary={"progressPercent": 42, "etaSeconds": 90},
        cost={
            "flops": {"training": "12345678901234567890"}, "savedFlops": {"annotation": "7"},
            "gpuSeconds": {"Training": 60}, "cpuSeconds": {"Preparing": 3},
        },
        goodputPercent=75,
        gains=[{
            "stage": "pretrain", "arm": "conditioned", "baseline": "plain", "measure": "Accuracy",
            "gain": "-0.250000",
        }],
        stages=[
            {"name": "pretrain", "steps": [
                step("prepare/plain", "Prepare", "plain", state="Complete", cached=True),
                step("train/plain", "Train", "plain", done=3, total=12, unit="tokens",
                     attemptsByFault={"Infrastructure": 2}),
            ]}
        ],
    )  # fmt: skip
    found, run = scraper.scrape(), {"namespace": "default", "run": "test"}
    assert found.of("ixt_runs") == {"default,Running": 1}
    assert found.of("ixt_run_info", **run) == {"gpus,cpu": 1}
    assert found.of("ixt_run_phase", **run) == {"Running": 1}
    assert found.of("ixt_run_condition", **run) == {"Valid,Accepted": 1, "RunNotComplete,Complete": 0}
    assert found.of("ixt_run_progress_ratio", **run) == {"": 0.42}
    assert found.of("ixt_run_eta_seconds", **run) == {"": 90}
    assert found.of("ixt_run_start_timestamp_seconds", **run) == {"": START}
    assert found.of("ixt_run_flops_total", **run) == {"training": 12345678901234567890}
    assert found.of("ixt_run_saved_flops_total", **run) == {"annotation": 7}
    nothing = dict.fromkeys(names.Spending, 0)
    assert found.of("ixt_run_gpu_seconds_total", **run) == {**nothing, "Training": 60}
    assert found.of("ixt_run_cpu_seconds_total", **run) == {**nothing, "Preparing": 3}
    assert found.of("ixt_run_goodput_ratio", **run) == {"": 0.75}
    assert found.of("ixt_run_cached_steps", **run) == {"": 1}
    assert found.of("ixt_run_gain", **run) == {"conditioned,plain,Accuracy,pretrain": -0.25}
    train = run | {"stage": "pretrain", "step": "train/plain", "kind": "Train", "arm": "plain"}
    assert found.of("ixt_step_state", **train) == {"Running": 1}
    assert found.of("ixt_step_work_done", **train) == {"tokens": 3}
    assert found.of("ixt_step_work_expected", **train) == {"tokens": 12}
    assert found.of("ixt_step_failed_attempts", **train) == {"Infrastructure": 2}


def test_work_that_is_not_saved_yet_is_told_by_purpose_while_a_run_is_not_finished(
    cluster: Cluster, scraper: Scraper
) -> None:
    account = {"since": 1, "until": 2, "gpus": True, "unsaved": 1500, "work": "Training"}
    accounts = {
        "a": account, "b": account, "c": {"since": 1, "until": 2, "unsaved": 1500, "work": "Preparing"},
        "server": {"since": 1, "until": 2, "gpus": True, "counted": {"Annotating": 7}},
    }  # fmt: skip
    cluster.run(internal={"accounts": accounts})
    found = scraper.scrape()
    assert found.of("ixt_run_unsaved_gpu_seconds", run="test") == {"default,Training": 3}
    assert found.of("ixt_run_unsaved_cpu_seconds", run="test") == {"default,Preparing": 1.5}
    cluster.run(phase="Failed", internal={"accounts": accounts})
    assert scraper.scrape().of("ixt_run_unsaved_gpu_seconds") == {}


@pytest.mark.parametrize("name", ["a", "0", "a.b-c.d", "x" * 63, "9-" * 31 + "9"])
def test_each_legal_name_of_a_run_is_a_label(name: str, cluster: Cluster, scraper: Scraper) -> None:
    cluster.run(name)
    for accept in ("", OPENMETRICS):
        assert scraper.scrape(accept=accept).of("ixt_run_phase", run=name) == {"default,Running": 1}


@pytest.mark.parametrize("phase", ["Complete", "Failed"])
def test_a_finished_run_keeps_its_own_figures_and_none_of_its_steps(
    phase: str, cluster: Cluster, scraper: Scraper
) -> None:
    stages = [{"name": "pretrain", "steps": [step("train/plain", "Train", "plain")]}]
    job = cluster.attempt("train", **TRAIN)
    cluster.pod(job, told=counted(1))
    cluster.run(stages=stages, summary={"etaSeconds": 3})
    assert {name for name in scraper.scrape().about("test") if not name.startswith("ixt_run_")}
    cluster.run(phase=phase, stages=stages, completionTime="2027-01-15T08:00:09Z", summary={"etaSeconds": 3})
    found = scraper.scrape().about("test")
    assert {name for name in found if not name.startswith("ixt_run_")} == set()
    assert "ixt_run_completion_timestamp_seconds" in found
    assert "ixt_run_eta_seconds" not in found


def test_a_run_that_is_gone_takes_its_series_along(cluster: Cluster, scraper: Scraper) -> None:
    run = cluster.run()
    cluster.pod(cluster.attempt("train", **TRAIN), told=counted(1))
    assert scraper.scrape().about("test")
    cluster.cache.drop(RUNS, run)
    assert scraper.scrape().about("test") == set()


def test_who_does_not_lead_tells_of_no_run() -> None:
    body, _ = exporter.exposition(lambda: (), "")
    assert not any(name.startswith("ixt_run") for name in read(body))


def test_active_seconds_are_left_over_suspensions(cluster: Cluster, scraper: Scraper) -> None:
    spec, rested = {"activeDeadlineSeconds": 100}, {"suspendedSeconds": 30}
    cluster.run(spec=spec, internal=rested)
    assert scraper.scrape(50).of("ixt_run_deadline_seconds") == {"default,test": 80}
    suspended = conditions(Suspended=("True", "SuspendedByUser"))
    cluster.run(phase="Suspended", spec=spec, internal=rested, conditions=suspended)
    assert scraper.scrape(50).of("ixt_run_deadline_seconds") == {"default,test": 130}


ROOM = "pod x cannot start yet: no room"
PENDING = ("True", "StepsWaiting", "pod x cannot start\nyet:\x00 no room")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Accepted": ("True", "Valid", ""), "Progressing": PENDING}, ROOM),
        ({"Progressing": ("True", "StepsRunning", "12 of 99")}, None),
        ({"Accepted": ("False", "InvalidSpec", 'no "x\\y"'), "Progressing": PENDING}, 'no "x\\y"'),
        ({"Accepted": ("True", "ReferencesChanged", "it changed"), "Progressing": PENDING}, ROOM),
        ({"Accepted": ("True", "ReferencesChanged", "it changed")}, "it changed"),
        ({"Progressing": ("True", "Retrying", "long " * 99)}, ("long " * 99)[:200]),
    ],
)
def test_the_message_is_what_a_condition_says_in_a_line(
    given: Any, message: str | None, cluster: Cluster, scraper: Scraper
) -> None:
    cluster.run(conditions=conditions(**given))
    for accept in ("", OPENMETRICS):
        found = scraper.scrape(accept=accept).of("ixt_run_message_info", run="test", namespace="default")
        assert found == ({message: 1} if message else {})
    cluster.run(phase="Failed", conditions=conditions(**given))
    assert scraper.scrape().of("ixt_run_message_info") == {}


# Steps


def test_a_steps_counters_go_on_from_attempt_to_attempt(cluster: Cluster, scraper: Scraper) -> None:
    """Whether an attempt told its result, was killed, or runs."""
    cluster.run()
    first, second, third = (
        cluster.attempt(f"annotate-{number}", number=number, **ANNOTATE) for number in range(3)
    )
    cluster.pod(first, told=counted(5))
    assert sum(scraper.scrape().of(f"{DOCUMENTS}").values()) == 5
    result = {"outcome": "Failed", "figures": {DOCUMENTS: {"Ok": 6}}}
    cluster.pod(first, phase="Failed", result=json.dumps(result))
    assert sum(scraper.scrape().of(f"{DOCUMENTS}").values()) == 6
    cluster.pod(second, told=counted(10))
    cluster.pod(second, 1, told=counted(20))
    cluster.pod(second, phase="Failed")
    assert sum(scraper.scrape().of(f"{DOCUMENTS}").values()) == 36
    cluster.pod(third, told=counted(100))
    assert scraper.scrape().of(DOCUMENTS, run="test", step="annotate/0-30") == {
        ",Annotate,default,Ok,,pretrain": 136
    }


def test_a_step_that_ended_beside_a_sidecar_has_its_results_figures(
    cluster: Cluster, scraper: Scraper
) -> None:
    """And an operator that started later counts them, though nobody answers there any more."""
    cluster.run()
    job = cluster.attempt("annotate", **ANNOTATE)
    result = {"outcome": "Committed", "figures": {DOCUMENTS: {"Ok": 9}}}
    cluster.pod(job, phase="Succeeded", result=json.dumps(result), company=True)
    cluster.pod(job, 1, told=counted(4), company=True)
    assert sum(scraper.scrape().of(DOCUMENTS).values()) == 13


def test_what_pods_counted_stays_counted_when_they_are_gone(cluster: Cluster, scraper: Scraper) -> None:
    """As long as their Job is there: it deletes all when one fails, and a drain takes any."""
    cluster.run()
    job = cluster.attempt("annotate", **ANNOTATE)
    for index in range(4):
        cluster.pod(job, index, told=counted(100, **{names.REQUESTS_OPEN.name: {"Open": 9.0}}))
    assert sum(scraper.scrape().of(DOCUMENTS).values()) == 400
    cluster.pod(job, 0, phase="Failed")
    for pod in cluster.cache.all(PODS):
        if pod["status"]["phase"] == "Running":
            cluster.cache.drop(PODS, pod)
            del cluster.progress[pod["metadata"]["uid"]]
    for _ in range(2):
        found = scraper.scrape()
        assert sum(found.of(DOCUMENTS).values()) == 400
        assert list(found.of(names.REQUESTS_OPEN.name).values()) == [0], "gauges are of pods that are there"
    cluster.pod(job, 4, told=counted(1))
    assert sum(scraper.scrape().of(DOCUMENTS).values()) == 401
    cluster.cache.drop(JOBS, job)
    assert scraper.scrape().of(DOCUMENTS) == {}


def test_a_gauge_is_that_of_the_newest_attempt(cluster: Cluster, scraper: Scraper) -> None:
    cluster.run()
    for number, loss in ((1, 2.0), (0, 3.0)):
        job = cluster.attempt(f"train-{number}", number=number, **TRAIN)
        cluster.pod(job, told=Progress(figures={LOSS: {"": loss}}))
    assert scraper.scrape().of(LOSS) == {"plain,Train,default,test,0,pretrain,train/plain": 2.0}


def test_a_histogram_is_whole(cluster: Cluster, scraper: Scraper) -> None:
    cluster.run()
    scores = {names.SCORES.name: {"3.0": 2.0, "5.0": 1.0, "+Inf": 1.0, "sum": 111.0}}
    cluster.pod(cluster.attempt("annotate", **ANNOTATE), told=Progress(figures=scores))
    for accept in ("", OPENMETRICS):
        found = scraper.scrape(accept=accept)
        values = {dict(own)["le"]: value for own, value in found[f"{names.SCORES.name}_bucket"].items()}
        assert (values["2.5"], values["3.0"], values["5.0"], values["+Inf"]) == (0, 2, 3, 4)
        assert [*found[f"{names.SCORES.name}_sum"].values()] == [111.0]


def test_a_histogram_of_scores_below_0_can_be_read_in_both_formats(
    cluster: Cluster, scraper: Scraper
) -> None:
    """As from the step itself: OpenMetrics has no sums below 0."""
    cluster.run()
    scores = {names.SCORES.name: {"0.0": 2.0, "sum": -7.0}}
    cluster.pod(cluster.attempt("annotate", **ANNOTATE), told=Progress(figures=scores))
    for accept in ("", OPENMETRICS):
        found = scraper.scrape(accept=accept)
        assert [*found[f"{names.SCORES.name}_sum"].values()] == [0.0]
        assert [*found[f"{names.SCORES.name}_count"].values()] == [2.0]


def test_after_a_restart_nothing_is_counted_before_everybody_was_heard(
    cluster: Cluster, scraper: Scraper
) -> None:
    cluster.run()
    job = cluster.attempt("annotate", **ANNOTATE)
    pods = [cluster.pod(job, index) for index in range(2)]
    other = cluster.pod(cluster.attempt("train", **TRAIN))
    for uid in (*pods[:1], other):
        assert scraper.scrape().of(DOCUMENTS) == {}
        cluster.hear(uid, counted(5))
    assert scraper.scrape().of(DOCUMENTS, kind="Annotate") == {}
    assert sum(scraper.scrape().of(DOCUMENTS, kind="Train").values()) == 5
    cluster.hear(pods[1], counted(7))
    assert sum(scraper.scrape().of(DOCUMENTS, kind="Annotate").values()) == 12


@pytest.mark.parametrize("phase", ["", "Failed"])
def test_after_a_restart_counters_go_on_from_0_where_a_pods_counts_are_lost(
    phase: str, cluster: Cluster
) -> None:
    """To Prometheus a counter that falls began anew at 0: one that falls to what is left would count that
    again. Pods are gone, or were killed with what they told to the operator before alone."""
    cluster.run()
    first = cluster.attempt("annotate-1", number=1, **ANNOTATE)
    last_word = json.dumps({"outcome": "Failed", "figures": {DOCUMENTS: {"Ok": 100}}})
    cluster.pod(first, 0, "Failed", result=last_word)
    gone = cluster.pod(first, 1, told=counted(500))
    other = cluster.pod(cluster.attempt("train", **TRAIN), told=counted(9))
    second = cluster.attempt("annotate-2", number=2, **ANNOTATE)
    running = cluster.pod(second, 0, told=counted(40))
    before = Scraper(cluster).scrape()
    assert sum(before.of(DOCUMENTS, kind="Annotate").values()) == 640

    # That pod goes while no operator is there; to the next one those that run have told nothing.
    (pod,) = (each for each in cluster.cache.all(PODS) if each["metadata"]["uid"] == gone)
    cluster.cache.drop(PODS, pod)
    if phase:
        cluster.pod(first, 1, phase)
    cluster.cache.put(JOBS, {**first, "status": {"failed": 2}})
    cluster.progress = Progresses()
    restarted = Scraper(cluster)
    assert restarted.scrape().of(DOCUMENTS, kind="Annotate") == {}, "who runs is not heard yet"
    cluster.hear(running, counted(45))
    cluster.hear(other, counted(9))
    seen = []
    for number in (45, 60, 70):
        cluster.hear(running, counted(number))
        found = restarted.scrape()
        seen.append(sum(found.of(DOCUMENTS, kind="Annotate").values()))
        assert sum(found.of(DOCUMENTS, kind="Train").values()) == 9, "nothing of another node is lost"
    assert seen == [0, 15, 25]
    third = cluster.attempt("annotate-3", number=3, **ANNOTATE)
    cluster.pod(third, told=counted(5))
    assert sum(restarted.scrape().of(DOCUMENTS, kind="Annotate").values()) == 30


def test_after_a_restart_counters_go_on_where_all_pods_are_there(cluster: Cluster) -> None:
    cluster.run()
    job = cluster.attempt("annotate", **ANNOTATE)
    cluster.cache.put(JOBS, {**job, "status": {"active": 1, "succeeded": 1}})
    last_word = json.dumps({"outcome": "Shared", "figures": {DOCUMENTS: {"Ok": 100}}})
    cluster.pod(job, 0, "Succeeded", result=last_word)
    running = cluster.pod(job, 1, told=counted(500))
    assert sum(Scraper(cluster).scrape().of(DOCUMENTS).values()) == 600
    cluster.progress = Progresses()
    restarted = Scraper(cluster)
    assert restarted.scrape().of(DOCUMENTS) == {}
    cluster.hear(running, counted(510))
    assert sum(restarted.scrape().of(DOCUMENTS).values()) == 610


def test_a_rate_that_nobody_tells_falls_to_nothing(cluster: Cluster, scraper: Scraper) -> None:
    entry = step("train/plain", "Train", "plain", done=40, total=100, unit="tokens")
    cluster.run(stages=[{"name": "pretrain", "steps": [entry]}])
    job = cluster.attempt("train", **TRAIN)
    told = Progress(done=40, total=100, per_second=2.0, figures={TOKENS: {"": 2.0}, LOSS: {"": 1.5}})
    uid = cluster.pod(job, told=told)

    def seen(after: float) -> list[float]:
        found = scraper.scrape(after)
        which = ("ixt_step_work_per_second", "ixt_step_eta_seconds", TOKENS, LOSS)
        return [value for name in which for value in found.of(name).values()]

    assert seen(59) == [2.0, 30.0, 2.0, 1.5]
    assert seen(61) == [0.0, 0.0, 1.5]
    cluster.hear(uid, told.model_copy(update={"per_second": 0.0}), START + 61)
    assert seen(61) == [0.0, 0.0, 1.5]


def test_a_unit_of_a_pods_own_is_no_label(cluster: Cluster, scraper: Scraper) -> None:
    """Else each answer could make a series."""
    for unit, label in (("documents", "documents"), ('x"\n', "units"), ("y", "units")):
        entry = step("annotate/0-30", "Annotate", done=1, total=2, unit=unit)
        cluster.run(stages=[{"name": "pretrain", "steps": [entry]}])
        cluster.pod(cluster.attempt("annotate", **ANNOTATE), told=Progress(done=1, per_second=1, unit=unit))
        for name in ("ixt_step_work_done", "ixt_step_work_expected", "ixt_step_work_per_second"):
            ((labels, _),) = scraper.scrape()[name].items()
            assert dict(labels)["unit"] == label


def test_a_worker_that_is_gone_has_no_request_open(cluster: Cluster, scraper: Scraper) -> None:
    """One that stands still has: its judge hangs."""
    cluster.run()
    job = cluster.attempt("annotate", **ANNOTATE)
    told = Progress(per_second=0.0, figures={names.REQUESTS_OPEN.name: {"Open": 9.0}})
    cluster.pod(job, told=told)
    assert list(scraper.scrape().of(names.REQUESTS_OPEN.name).values()) == [9]
    cluster.pod(job, phase="Failed")
    assert list(scraper.scrape().of(names.REQUESTS_OPEN.name).values()) == [0]


def test_gates_of_an_annotation_are_told(cluster: Cluster, scraper: Scraper) -> None:
    for gates, limits in (({"maxInvalidPercent": 5}, [0.05, 0.1]), ({}, [0.1, 0.2])):
        stage = {"name": "pretrain", "type": "Pretrain", "annotate": {"gates": gates}}
        entries = [step("annotate/0-30", "Annotate"), step("train/plain", "Train", "plain")]
        cluster.run(spec={"stages": [stage]}, stages=[{"name": "pretrain", "steps": entries}])
        found = scraper.scrape().of("ixt_step_gate_ratio", step="annotate/0-30")
        assert sorted(found.values()) == limits
        assert len(scraper.scrape()["ixt_step_gate_ratio"]) == 2


def test_seeds_share_a_steps_rate(cluster: Cluster, scraper: Scraper) -> None:
    cluster.run()
    for seed in "01":
        job = cluster.attempt(f"train-{seed}", **{**TRAIN, "seed": seed})
        cluster.pod(job, told=Progress(per_second=2.0, unit="tokens"))
    assert scraper.scrape().of("ixt_step_work_per_second") == {
        "plain,Train,default,test,pretrain,train/plain,tokens": 4.0
    }


def test_a_deadline_counts_from_a_steps_first_attempt(cluster: Cluster, scraper: Scraper) -> None:
    stage = {"name": "pretrain", "type": "Pretrain", "annotate": {"deadlineSeconds": 100}}
    entry = step("annotate/0-30", "Annotate")
    cluster.run(spec={"stages": [stage]}, stages=[{"name": "pretrain", "steps": [entry]}])
    for number in range(2):
        cluster.attempt(f"annotate-{number}", number=number, created_at=START + 20 * number, **ANNOTATE)
    cluster.attempt("train", **TRAIN)
    assert list(scraper.scrape(60).of("ixt_step_deadline_seconds").values()) == [40]


def test_a_job_that_waits_in_a_queue_has_a_place(cluster: Cluster, scraper: Scraper) -> None:
    cluster.run()
    cluster.positions[cluster.attempt("train", **TRAIN)["metadata"]["uid"]] = 7
    cluster.attempt("annotate", **ANNOTATE)
    assert scraper.scrape().of("ixt_step_queue_position", run="test", kind="Train", seed="0") == {
        "plain,default,pretrain,train/plain": 7
    }
    assert len(scraper.scrape()["ixt_step_queue_position"]) == 1


# What pods cannot do


def test_a_pod_that_bears_anothers_labels_is_not_heard(cluster: Cluster, scraper: Scraper) -> None:
    """Neither as a run that it does not belong to, nor as a copy of a pod that does."""
    cluster.run("victim")
    cluster.run("mine")
    job = cluster.attempt("annotate", "mine", **ANNOTATE)
    uid = cluster.pod(job, told=counted(666))
    found = dict(cluster.cache.all(PODS)[0])
    labels = {**found["metadata"]["labels"], "ixt.dev/run": "victim", "ixt.dev/run-uid": "uid-victim"}
    cluster.cache.put(
        PODS, {**found, "metadata": {**found["metadata"], "labels": labels, "resourceVersion": "99"}}
    )
    assert cluster.progress.keys() == {uid}
    shown = scraper.scrape()
    assert shown.of(DOCUMENTS, run="victim") == shown.of(DOCUMENTS, run="mine") == {}


def test_a_result_may_say_anything(cluster: Cluster, scraper: Scraper) -> None:
    cluster.run()
    result = {"outcome": "Committed", "figures": {"ixt_runs": {"": 1}, DOCUMENTS: {"Ok": -1, "BadJson": 1}}}
    cluster.pod(cluster.attempt("annotate", **ANNOTATE), phase="Succeeded", result=json.dumps(result))
    for _ in range(2):
        found = scraper.scrape()
        assert found.of("ixt_runs") == {"default,Running": 1}
        assert list(found.of(DOCUMENTS).values()) == [1]
    assert scraper.refused == {"UnknownMetric": 1, "Negative": 1}


def test_a_job_that_somebody_labelled_is_read_as_far_as_it_can_be(cluster: Cluster, scraper: Scraper) -> None:
    cluster.run()
    cluster.attempt("odd", kind="Else", seed="x", stage="nowhere")
    (job,) = cluster.cache.all(JOBS)
    cluster.pod(job, told=counted(1))
    assert scraper.scrape().of("ixt_run_phase", run="test") == {"default,Running": 1}


def test_the_table_has_every_series_that_there_is(cluster: Cluster) -> None:
    """And OpenMetrics is spoken to who asks for it, with the same values."""
    cluster.run(conditions=conditions(Accepted=("True", "Valid")))
    cluster.pod(cluster.attempt("annotate", **ANNOTATE), told=counted(3))
    exporter.count_request("get", "pods", 200, 0.1)
    plain, open_ = (Scraper(cluster).scrape(accept=accept) for accept in ("", OPENMETRICS))
    assert plain == open_
    assert plain.of("ixt_operator_build_info")
    assert plain.of("ixt_operator_api_requests_total", verb="get", resource="pods", code="200")


# Rounds


def test_a_stage_says_its_round_and_its_figures_are_the_newest_rounds(
    cluster: Cluster, scraper: Scraper
) -> None:
    """Also where an earlier round took more attempts; what is counted goes on from round to round."""
    annotate = step("annotate/c", "Annotate", "c", done=30, total=60, unit="documents", round=2)
    stages = [{"name": "post", "rounds": 3, "etaSeconds": 90, "steps": [annotate]}]
    spec = {"stages": [{"name": "post", "rollout": {}, "annotate": {"deadlineSeconds": 600}}]}
    cluster.run(spec=spec, stages=stages)
    node = {"kind": "Annotate", "stage": "post", "arm": "c", "seed": "0"}
    right = names.RIGHT.name

    def told(done: float, share: float) -> Progress:
        figures = {right: {"": share}, DOCUMENTS: {"Ok": done}}
        return Progress(done=done, total=20, unit="documents", per_second=2, figures=figures)

    first = cluster.attempt("first", number=3, round="1", **node)
    second = cluster.attempt("second", number=1, round="2", created_at=START + 500, **node)
    cluster.pod(first, phase="Succeeded", told=told(20, 0.25))
    uid = cluster.pod(second)
    cluster.hear(uid, told(10, 0.5), at=START + 510)
    found, of_step = scraper.scrape(after=510), {"run": "test", "step": "annotate/c"}
    stage = {"namespace": "default", "run": "test", "stage": "post"}
    assert [found.of(f"ixt_stage_{name}", **stage) for name in ("round", "rounds", "eta_seconds")] == [
        {"": 2},
        {"": 3},
        {"": 90},
    ]
    assert [*found.of(right, **of_step).values()] == [0.5]
    assert [*found.of(DOCUMENTS, **of_step).values()] == [30]
    assert [*found.of("ixt_step_eta_seconds", **of_step).values()] == [5], "of this round"
    assert [*found.of("ixt_step_deadline_seconds", **of_step).values()] == [590], "of this round"
    gates = found.of("ixt_step_gate_ratio", **of_step)
    assert len(gates) == 4, gates
