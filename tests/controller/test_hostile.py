"""What a tenant writes against the operator: rubrics, statuses, answers of pods. It harms that run alone."""

import json
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from make import runs
from make.api import Api
from make.bombs import GOOD, LAUGHS, SEXAGESIMAL
from make.children import SUCCEED, tasks
from make.exposed import START, Cluster, read, step
from make.objects import pod

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, NAMESPACES, RUNS, RUNTIMES
from ixt_operator.adapters.kubernetes.explaining import Explainer
from ixt_operator.adapters.kubernetes.pod import Heard, process_of
from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import Reason
from ixt_operator.controller import exporter
from ixt_operator.controller.lending import Lender
from ixt_operator.controller.look import RunName, Runs
from ixt_operator.controller.queue import UNFORESEEN_SECONDS, Retry, backoff
from ixt_operator.controller.references import RUBRIC_BYTES, NotAccepted, named, put_together, run_of
from ixt_operator.controller.scrape import RunSeries
from ixt_workloads.contract.foreign import MAX_JSON_BYTES, json_of, plain
from ixt_workloads.contract.results import Progress, Result
from ixt_workloads.contract.versions import read_known


async def accepted(rubric: str) -> Any:
    """The rubric of a run that takes it from a ConfigMap with this text."""
    api, cache = Api(), Cache()
    runtime = runs.runtime().model_dump(mode="json", by_alias=True, exclude_none=True)
    runtime["metadata"]["uid"] = "uid-cpu"
    cache.put(RUNTIMES, api.put(runtime, RUNTIMES.path("", "cpu")))
    found = {"metadata": {"name": "rubric", "namespace": "default"}, "data": {"text": rubric}}
    api.put({"kind": "ConfigMap", **found}, CONFIG_MAPS.path("default", "rubric"))
    judge = {"model": "file:///judge", "rubric": {"configMapKeyRef": {"name": "rubric", "key": "text"}}}
    run = await resolved(runs.manifest(judge=judge), api, cache)
    assert run.spec.judge is not None
    return run.spec.judge.rubric


async def resolved(manifest: dict[str, Any], api: Api, cache: Cache) -> IXTRun:
    """The run as it would start now."""
    run = run_of(manifest)
    return put_together(run, await named(run, api, cache))[0]


async def test_a_rubric_is_read_from_its_config_map() -> None:
    assert (await accepted(GOOD)).inline.instructions == "Judge."


@pytest.mark.parametrize(
    ("rubric", "said"),
    [
        (LAUGHS, "the alias *a is not taken"),
        ("[" * (RUBRIC_BYTES - 1), "more than 64 levels"),
        ("{a: " * (RUBRIC_BYTES // 4), "more than 64 levels"),
        (GOOD + "<<: {a: 1}\n", "the merge key << is not taken"),
        (GOOD + "#" * RUBRIC_BYTES, "has more than 65,536 bytes"),
        (SEXAGESIMAL, "minScore: Input should be a valid integer"),
        (GOOD + "minScore: " + "9" * 5000, "minScore: "),
        (GOOD + GOOD, "line 4: is given in line 1 already"),
        ("", "Input should be a valid dictionary"),
    ],
    ids=["aliases", "brackets", "braces", "merge", "long", "sexagesimal", "digits", "twice", "empty"],
)
async def test_a_rubric_that_is_a_bomb_is_refused_at_once(rubric: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(NotAccepted, match="ConfigMap rubric, key text") as refused:
        await accepted(rubric)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert said in str(refused.value)
    assert len(str(refused.value)) < 1100
    assert time.process_time() - began < 1.0


LABELS = {"kubernetes.io/metadata.name": "default", "team": "nlp"}


def chosen(operator: str, *values: str, key: str = "kubernetes.io/metadata.name") -> dict[str, Any]:
    return {
        "matchExpressions": [{"key": key, "operator": operator, **({"values": values} if values else {})}]
    }


async def permitted(manifest: dict[str, Any], **runtime_spec: Any) -> Api:
    """The API server's double after it was asked whether a run may use its runtime. Raises NotAccepted."""
    api, cache = Api(), Cache()
    runtime = runs.runtime().model_dump(mode="json", by_alias=True, exclude_defaults=True)
    runtime["metadata"]["uid"] = "uid-cpu"
    runtime["spec"] |= runtime_spec
    cache.put(RUNTIMES, api.put(runtime, RUNTIMES.path("", "cpu")))
    api.put({"metadata": {"name": "default", "labels": LABELS}}, NAMESPACES.path("", "default"))
    await Lender(api, cache).permit(run_of(manifest))
    return api


@pytest.mark.parametrize(
    ("allowed", "may", "read"),
    [
        ({}, True, False),
        (chosen("In", "team", "default"), True, False),
        (chosen("In", "team"), False, False),
        (chosen("NotIn", "default"), False, False),
        ({"matchLabels": {"team": "nlp"}}, True, True),
        ({"matchLabels": {"team": "vision"}}, False, True),
        (chosen("Exists", key="team"), True, True),
        (chosen("DoesNotExist", key="team"), False, True),
        ({"matchLabels": {"team": "nlp"}, **chosen("In", "another")}, False, True),
    ],
)
async def test_a_runtime_is_lent_to_its_namespaces_alone(
    allowed: dict[str, Any], may: bool, read: bool
) -> None:
    if may:
        api = await permitted(runs.manifest(), allowedNamespaces=allowed)
        assert (("GET", "namespaces/default") in api.calls) == read
        return
    with pytest.raises(
        NotAccepted, match="IXTRuntime cpu is not for runs of namespace default: name another"
    ):
        await permitted(runs.manifest(), allowedNamespaces=allowed)


@pytest.mark.parametrize("allowed", [["default"], chosen("In"), chosen("Exists", "a"), {"matchNames": []}])
async def test_a_runtime_whose_selector_cannot_be_read_is_lent_to_nobody(allowed: Any) -> None:
    with pytest.raises(NotAccepted, match="allowedNamespaces is no label selector") as refused:
        await permitted(runs.manifest(), allowedNamespaces=allowed)
    assert refused.value.reason is Reason.RUNTIME_INVALID


OF_A_CONTAINER = "spec.containers[main]"
SIDECAR = {"name": "mine", "image": "mine:1"}


@pytest.mark.parametrize(
    ("patch", "field", "path"),
    [
        (runs.patch(spec={"hostNetwork": True}), "hostNetwork", "spec.hostNetwork"),
        (runs.patch(spec={"hostPID": True}), "hostPID", "spec.hostPID"),
        (runs.patch(spec={"nodeName": "a"}), "nodeName", "spec.nodeName"),
        (runs.patch(spec={"runtimeClassName": "weak"}), "runtimeClassName", "spec.runtimeClassName"),
        (runs.patch(spec={"securityContext": None}), "securityContext", "spec.securityContext"),
        (
            runs.patch(securityContext={"privileged": True}),
            "securityContext",
            f"{OF_A_CONTAINER}.securityContext",
        ),
        (
            runs.patch(spec={"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}),
            "hostPath",
            "spec.volumes[root].hostPath",
        ),
        (
            runs.patch(spec={"volumes": [{"name": "share", "nfs": {"server": "a", "path": "/"}}]}),
            "nfs",
            "spec.volumes[share].nfs",
        ),
        (
            runs.patch(lifecycle={"postStart": {"httpGet": {"host": "169.254.169.254", "port": 80}}}),
            "host",
            f"{OF_A_CONTAINER}.lifecycle",
        ),
        (
            runs.patch(
                spec={"containers": [{**SIDECAR, "livenessProbe": {"tcpSocket": {"host": "a", "port": 1}}}]}
            ),
            "host",
            "spec.containers[mine].livenessProbe",
        ),
        (
            runs.patch(spec={"initContainers": [{**SIDECAR, "securityContext": {"privileged": True}}]}),
            "securityContext",
            "spec.initContainers[mine].securityContext",
        ),
        (
            runs.patch(
                spec={"initContainers": [{**SIDECAR, "ports": [{"containerPort": 1, "hostPort": 1}]}]}
            ),
            "hostPort",
            "spec.initContainers[mine].ports",
        ),
        (
            {
                "metadata": {
                    "annotations": {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}
                }
            },
            "securityContext",
            "metadata.annotations.container.apparmor.security.beta.kubernetes.io/main",
        ),
        (runs.patch(spec={"aFieldOfTomorrow": 1}), "aFieldOfTomorrow", "spec.aFieldOfTomorrow"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." not in value else "",
)
async def test_a_run_takes_nothing_of_the_node_unless_its_runtime_lends_it(
    patch: dict[str, Any], field: str, path: str
) -> None:
    manifest = runs.manifest(pods={"judge": patch})
    with pytest.raises(NotAccepted) as refused:
        await permitted(manifest)
    assert str(refused.value) == (
        f"spec.pods.judge.{path}: IXTRuntime cpu lets no run set {field}: leave it out, name another "
        f"runtime, or have its administrator add {field} to spec.allowedOverrides"
    )
    more = ["containers", "initContainers", "lifecycle", "volumes", "annotations", field]
    await permitted(manifest, allowedOverrides=more)
    await permitted(manifest, allowedOverrides=["*"])


async def test_what_a_runtime_lends_may_be_as_little_as_its_administrator_wants() -> None:
    await permitted(runs.manifest(), allowedOverrides=[])
    for pods in (runs.patch(image="mine:1"), runs.patch(env=[{"name": "A", "value": "b"}])):
        await permitted(runs.manifest(pods={"all": pods}))
        with pytest.raises(NotAccepted, match=r"spec.pods.all.spec.containers\[main\]"):
            await permitted(runs.manifest(pods={"all": pods}), allowedOverrides=["resources"])
    larger = runs.manifest(stages=[runs.stage(train={"resourcesPerNode": {"requests": {"cpu": "2"}}})])
    await permitted(larger)
    with pytest.raises(
        NotAccepted, match=r"spec.stages\[0\].train.resourcesPerNode: IXTRuntime cpu lets no run"
    ):
        await permitted(larger, allowedOverrides=["image"])


async def test_a_look_that_fails_unforeseen_is_tried_after_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr("ixt_operator.controller.started.run_of", broken)
    cache = Cache()
    cache.put(RUNS, runs.manifest())
    with pytest.raises(Retry) as failed:
        explainer = Explainer(Api(), cache, lambda *_: None)
        await Runs(Api(), cache, {}, explainer).look(RunName("default", "test"))
    assert backoff(20, failed.value.longest) >= UNFORESEEN_SECONDS / 2 >= 120


def test_a_poisoned_status_takes_no_other_runs_series_away(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    cluster.run(name="honest", phase="Running", stages=[{"name": "a", "steps": [step("train", "Train")]}])
    cluster.run(name="poisoned", phase="Running", startTime="not a time")
    series = RunSeries(cluster.cache, cluster.progress, cluster.positions, lambda why: None)
    body, _ = exporter.exposition(lambda: series.lines(START), "")
    found = read(body)
    assert found.about("honest")
    assert not found.about("poisoned")
    assert "poisoned: its series cannot be told" in caplog.text


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"figures":{"a":' + "[" * 100])
@pytest.mark.parametrize("model", [Progress, Result])
def test_a_deep_document_of_a_pod_is_refused(model: type[Progress], opening: str) -> None:
    with pytest.raises(ValueError, match="recursion limit"):
        read_known(model, opening * (MAX_JSON_BYTES // len(opening)))


def test_a_long_document_of_a_pod_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 65,536 bytes"):
        json_of(" " * MAX_JSON_BYTES + "1")


@pytest.mark.parametrize(
    "message", ["[" * 4096, '{"message":' * 300, "{" * 2048 + "\x1b[2Jgone", "x" * 10**6]
)
def test_a_termination_message_of_any_kind_is_a_log(message: str) -> None:
    ended = {"name": "main", "state": {"terminated": {"exitCode": 1, "message": message}}}
    found = process_of(
        0, pod(tasks("one", SUCCEED), phase="Failed", containerStatuses=[ended]), Heard({}, {})
    )
    assert found.result is None
    assert "\x1b" not in found.last_log
    assert len(found.last_log) <= 2048


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
told = st.dictionaries(
    st.sampled_from(
        [*(field.alias or name for kind in (Progress, Result) for name, field in kind.model_fields.items())]
    ),
    json_values | st.dictionaries(st.sampled_from(["ixt_training_loss", ""]), json_values, max_size=2),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(told | json_values)
@example({"outcome": "Committed", "committed": "-f" * 9})
@example({"done": float("nan"), "figures": {"ixt_training_loss": {"": float("nan")}}})
def test_whatever_a_pod_tells_is_read_or_no_value(value: Any) -> None:
    text = json.dumps(value)
    for model in (Progress, Result):
        try:
            found = read_known(model, text)
        except ValueError:
            continue
        assert isinstance(found, model)


def test_nan_is_no_progress() -> None:
    assert read_known(Progress, '{"done": NaN, "total": Infinity, "perSecond": -1}') == Progress()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.text(alphabet="\x1b\x9b[]0;1m\x07\\ab\u202e", max_size=40))
def test_what_people_read_has_no_commands_in_it(text: str) -> None:
    shown = plain(text)
    assert not {"Cc", "Cs"} & {unicodedata.category(each) for each in shown.translate({9: None, 10: None})}
    assert "\u202e" not in shown
    assert plain(shown) == shown


def test_a_title_and_a_link_of_a_terminal_are_taken_out() -> None:
    attack = "\x1b]0;title\x07a\x1b[31mred\x1b[0m\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\\x1b[2J\x9b1mb\r\nc\u202egpj"
    assert plain(attack) == "aredlinkb\ncgpj"
