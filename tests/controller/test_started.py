"""What a run was started with stays, whoever edits its runtime or rubric, until its own spec is edited; and
nobody else can say what that was."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from make import runs
from make.api import Api
from make.objects import Object

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, RUNS, RUNTIMES, ApiError
from ixt_operator.api.run import TAKE_OVER
from ixt_operator.api.status import Internal, RunStatus
from ixt_operator.controller.references import NotAccepted
from ixt_operator.controller.started import CHECK_SECONDS, Start, Starts

RUBRIC = CONFIG_MAPS.path("default", "rubric")
JUDGE = {"model": "file:///judge", "rubric": {"configMapKeyRef": {"name": "rubric"}}}


class Cluster:
    """A run with a rubric in a ConfigMap, and the API server's double."""

    def __init__(self) -> None:
        self.api, self.cache, self.now = Api(), Cache(), 0.0
        self.image("a:1")
        self.rubric("Score it.")
        self.run = self.api.put(runs.manifest(judge=JUDGE), RUNS.path("default", "test"))
        self.status = RunStatus()
        self.restart()

    def restart(self) -> None:
        """Another process leads."""
        self.starts = Starts(self.api, self.cache, lambda: self.now)

    def image(self, image: str, **spec: Any) -> None:
        """Edit the runtime: its image, and other fields of its spec."""
        runtime: Object = runs.runtime().model_dump(mode="json", by_alias=True, exclude_none=True)
        runtime["metadata"]["uid"] = "uid-cpu"
        for role in runtime["spec"]["roles"]:
            role["template"]["spec"]["containers"][0]["image"] = image
        runtime["spec"] |= spec
        self.cache.put(RUNTIMES, self.api.put(runtime, RUNTIMES.path("", "cpu")))

    def rubric(self, instructions: str) -> None:
        """Edit the rubric."""
        text = f"{{instructions: {instructions}, idealCritique: Good., worstCritique: Bad.}}"
        config = {"metadata": {"name": "rubric", "namespace": "default"}, "data": {"rubric.yaml": text}}
        self.api.put(config, RUBRIC)

    def gone(self) -> None:
        """Delete both."""
        del self.api.objects[RUBRIC]
        self.cache.drop(RUNTIMES, self.cache.all(RUNTIMES)[0])

    def edit(self, **spec: Any) -> None:
        """Edit the run's spec."""
        metadata = {**self.run["metadata"], "generation": self.run["metadata"]["generation"] + 1}
        self.run = {**self.run, "metadata": metadata, "spec": {**self.run["spec"], **spec}}

    def annotate(self, value: str) -> None:
        self.run["metadata"]["annotations"] = {TAKE_OVER: value} if value else {}

    async def start(self, *, told: bool = True) -> Start:
        """Start the run, and have its status tell of it; not `told`: the operator ends before it can."""
        self.now += CHECK_SECONDS
        start = await self.starts.of(self.run, self.status)
        if told:
            self.status = RunStatus(internal=Internal(started=start.hash))
        return start

    @property
    def written(self) -> list[Object]:
        return [each for place, each in self.api.objects.items() if ".started-" in place]


def said(start: Start) -> tuple[str, str]:
    """Image and instructions that a run is carried out with."""
    judge = start.run.spec.judge
    assert judge
    assert judge.rubric.inline
    template: Any = start.runtime.spec.roles[0].template
    return template["spec"]["containers"][0]["image"], judge.rubric.inline.instructions


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_a_start_is_written_down_once_for_good_and_goes_with_the_run(cluster: Cluster) -> None:
    for _ in range(3):
        assert said(await cluster.start()) == ("a:1", "Score it.")
    (written,) = cluster.written
    assert written["immutable"]
    assert written["metadata"]["name"].startswith("test.started-1-")
    (owner,) = written["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("IXTRun", "uid-test", True)


@pytest.mark.parametrize("restarted", [False, True])
async def test_edits_of_others_change_nothing_and_are_told(cluster: Cluster, restarted: bool) -> None:
    assert (await cluster.start()).changed == ""
    cluster.image("a:2")
    cluster.rubric("Score it well.")
    if restarted:
        cluster.restart()
    start = await cluster.start()
    assert said(start) == ("a:1", "Score it.")
    assert start.changed.startswith(
        "IXTRuntime cpu and the ConfigMap of its rubric changed; the run goes on "
    )
    assert 'kubectl annotate --overwrite ixtrun test ixt.dev/take-over="$(date)"' in start.changed
    cluster.image("a:1")
    cluster.rubric("Score it.")
    assert (await cluster.start()).changed == ""


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_run_goes_on_when_all_that_it_names_is_gone(cluster: Cluster, restarted: bool) -> None:
    await cluster.start()
    cluster.gone()
    if restarted:
        cluster.restart()
    start = await cluster.start()
    assert said(start) == ("a:1", "Score it.")
    assert "there is no IXTRuntime cpu" in start.changed


async def test_the_next_edit_of_the_spec_takes_over_what_changed(cluster: Cluster) -> None:
    await cluster.start()
    cluster.image("a:2")
    cluster.edit(maxParallelLanes=2)
    start = await cluster.start()
    assert (said(start), start.changed) == (("a:2", "Score it."), "")
    assert [each["metadata"]["name"][:14] for each in cluster.written] == ["test.started-1", "test.started-2"]


async def test_an_annotation_takes_over_what_changed_once_a_value(cluster: Cluster) -> None:
    await cluster.start()
    images = []
    for image, value in (("a:2", "today"), ("a:3", "today"), ("a:4", ""), ("a:5", "tomorrow")):
        cluster.image(image)
        cluster.annotate(value)
        for _ in range(2):
            images.append(said(await cluster.start())[0])
            cluster.restart()
    assert images == ["a:2", "a:2", "a:2", "a:2", "a:2", "a:2", "a:5", "a:5"]
    assert len(cluster.written) == 3, "what it ran with before is what `ixt why` tells of"


async def test_what_cannot_be_carried_out_is_not_taken_over(cluster: Cluster) -> None:
    await cluster.start()
    cluster.rubric("[")
    cluster.annotate("now")
    start = await cluster.start()
    assert said(start) == ("a:1", "Score it.")
    assert "the ConfigMap of its rubric changed" in start.changed
    cluster.edit(maxParallelLanes=2)
    with pytest.raises(NotAccepted, match=r"ConfigMap rubric, key rubric\.yaml"):
        await cluster.start()


async def test_nothing_is_written_down_for_a_run_that_is_suspended(cluster: Cluster) -> None:
    cluster.edit(suspend=True)
    assert said(await cluster.start()) == ("a:1", "Score it.")
    assert cluster.written == []


async def test_a_rubric_that_cannot_be_read_just_now_is_not_needed(cluster: Cluster) -> None:
    await cluster.start()
    cluster.api.refused["GET", "configmaps"] = ApiError(500, "InternalError", "no answer")
    start = await cluster.start()
    assert (said(start), start.changed) == (("a:1", "Score it."), "")


async def test_a_rubric_is_asked_for_once_a_minute(cluster: Cluster) -> None:
    await cluster.start()
    cluster.api.calls.clear()
    for _ in range(100):
        await cluster.starts.of(cluster.run, cluster.status)
    assert cluster.api.calls == []


async def test_a_refusal_is_told_as_one(cluster: Cluster) -> None:
    cluster.api.refused["POST", "configmaps"] = ApiError(403, "Forbidden", "exceeded quota: count/configmaps")
    with pytest.raises(NotAccepted, match="exceeded quota: count/configmaps") as error:
        await cluster.start()
    assert error.value.again


async def test_a_start_that_could_not_be_told_is_the_same_after_a_crash(cluster: Cluster) -> None:
    start = await cluster.start(told=False)
    cluster.restart()
    assert await cluster.start() == start
    assert len(cluster.written) == 1


async def test_a_run_that_took_the_name_of_another_starts_with_what_there_is(cluster: Cluster) -> None:
    await cluster.start()
    cluster.image("a:2")
    cluster.run["metadata"]["uid"] = "uid-other"
    assert said(await cluster.start())[0] == "a:2"


def stolen(config: Object) -> None:
    """What whoever may write ConfigMaps in a namespace makes of a start's: another image, all else alike."""
    config["data"]["runtime.json"] = config["data"]["runtime.json"].replace('"a:1"', '"evil:1"')
    assert '"evil:1"' in config["data"]["runtime.json"]


def replayed(config: Object) -> None:
    """The start of an earlier generation, whose runtime lent more."""
    config["data"]["runtime.json"] = json.dumps({"metadata": {"name": "cpu"}, "spec": {"roles": []}})
    config["metadata"]["annotations"][TAKE_OVER] = "earlier"


@pytest.mark.parametrize("attack", [stolen, replayed])
@pytest.mark.parametrize("restarted", [False, True])
async def test_what_a_tenant_writes_in_place_of_a_start_counts_for_nothing(
    cluster: Cluster, attack: Callable[[Object], None], restarted: bool
) -> None:
    await cluster.start()
    (written,) = cluster.written
    attack(written)  # deleted and created anew: it is immutable, and has the same name and owner
    if restarted:
        cluster.restart()
    assert said(await cluster.start()) == ("a:1", "Score it.")


async def test_nobody_can_say_before_a_run_what_it_will_be_started_with(cluster: Cluster) -> None:
    """A tenant copies the start of one run, makes it one with more, and gives it the name of the next."""
    await cluster.start()
    (written,) = cluster.written
    stolen(forged := json.loads(json.dumps(written)))
    for generation in (1, 2):
        name = written["metadata"]["name"].replace("started-1", f"started-{generation}")
        forged["metadata"]["name"] = name
        cluster.api.put(forged, CONFIG_MAPS.path("default", name))
    cluster.edit(maxParallelLanes=2)
    cluster.restart()
    assert said(await cluster.start()) == ("a:1", "Score it.")


def of(*names: str) -> Object:
    """A selector of namespaces by their names."""
    chosen = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(names)}
    return {"matchExpressions": [chosen]}


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_runtime_that_is_for_other_namespaces_by_now_starts_nothing(
    cluster: Cluster, restarted: bool
) -> None:
    await cluster.start()
    cluster.image("a:1", allowedNamespaces=of("team-a"))
    if restarted:
        cluster.restart()
    with pytest.raises(NotAccepted, match="IXTRuntime cpu is not for runs of namespace default"):
        await cluster.start()
    cluster.image("a:1", allowedNamespaces=of("team-a", "default"))
    assert said(await cluster.start())[0] == "a:1"


async def test_anothers_object_is_never_adopted(cluster: Cluster) -> None:
    await cluster.start(told=False)
    (written,) = cluster.written
    written["metadata"]["ownerReferences"] = []
    cluster.restart()
    with pytest.raises(
        NotAccepted, match=r"ConfigMap test\.started-1-\w+ exists and is not this run's: delete"
    ):
        await cluster.start()
