"""`kubectl ixt why` of runs whose old attempts are gone: what was written down at their starts says which
field changed."""

from typing import Any

import pytest
from make import runs
from make.api import Api
from make.objects import Object
from make.observed import Platform
from rich.console import Console

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, RUNTIMES
from ixt_operator.api.run import TAKE_OVER
from ixt_operator.api.status import Phase, RunStatus
from ixt_operator.cli import cluster as of_kubectl
from ixt_operator.cli import kubectl
from ixt_operator.cli.view import tree_and_note
from ixt_operator.controller.started import Starts

PREPARE, TRAIN = "pretrain/prepare/conditioned", "pretrain/train/conditioned-s0"
JUDGE = {"model": "file:///judge", "rubric": {"configMapKeyRef": {"name": "rubric"}}}


class Cluster:
    """A run whose children go when it ends, and what the operator writes down of it."""

    def __init__(self) -> None:
        self.api, self.cache = Api(), Cache()
        runtime = {**runs.runtime().model_dump(mode="json", by_alias=True, exclude_none=True)}
        runtime["metadata"]["uid"] = "uid-cpu"
        self.cache.put(RUNTIMES, self.api.put(runtime, RUNTIMES.path("", "cpu")))
        self.rubric("Score it.")
        self.manifest: Object = runs.manifest(judge=JUDGE)
        self.sim = Platform(runs.run())

    @property
    def status(self) -> RunStatus:
        return self.sim.status or RunStatus()

    def rubric(self, instructions: str) -> None:
        text = f"{{instructions: {instructions}, idealCritique: Good., worstCritique: Bad.}}"
        config = {"metadata": {"name": "rubric", "namespace": "default"}, "data": {"rubric.yaml": text}}
        self.api.put(config, CONFIG_MAPS.path("default", "rubric"))

    def edit(self, **spec: Any) -> None:
        self.manifest["metadata"]["generation"] += 1
        self.manifest["spec"] |= spec

    async def look(self) -> None:
        """The operator, which has just begun to lead, looks at the run."""
        start = await Starts(self.api, self.cache).of(self.manifest, self.status)
        self.sim.run = start.run
        self.sim.look()
        internal = self.status.internal.model_copy(
            update={"started": start.hash or self.status.internal.started}
        )
        self.sim.status = self.status.model_copy(update={"internal": internal})

    async def finish(self) -> None:
        """All goes well, and then all that was made for the run goes."""
        await self.look()
        for _ in self.sim.history():
            pass
        self.sim.children.clear()

    async def why(
        self, step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> str:
        """What the plugin prints."""
        listed = await self.api.list(CONFIG_MAPS, "default", labels="ixt.dev/run-uid=uid-test")
        run = {**self.manifest, "status": self.status.model_dump(mode="json", exclude_none=True)}
        answers = {"ixtrun": run, "configmaps": {"items": list(reversed(listed))}}
        monkeypatch.setattr(of_kubectl, "answer", lambda _, kind, *arguments: answers[kind])
        kubectl.why("test", step)
        return capsys.readouterr().out


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cluster: Cluster) -> Any:
    return lambda step: cluster.why(step, monkeypatch, capsys)


def stages(length: int, **fields: Any) -> list[Object]:
    return [runs.stage(prepare={"sequenceLength": length}, **fields)]


async def test_an_edit_of_an_ended_run_is_told_by_field(cluster: Cluster, asked: Any) -> None:
    await cluster.finish()
    assert "nothing caused a re-run" in await asked(TRAIN)
    cluster.edit(stages=stages(512))
    await cluster.finish()
    said = await asked("train/conditioned")
    first, *causes = said.splitlines()
    assert first.startswith(f"{TRAIN}  ")
    assert causes == [f"           because prepare.sequenceLength of {PREPARE} changed: 256 -> 512"]


async def test_what_changed_while_a_run_was_suspended_and_retried_is_told(
    cluster: Cluster, asked: Any
) -> None:
    """As `kubectl ixt retry` does it: the edit itself starts nothing."""
    await cluster.look()
    cluster.sim.until(TRAIN)
    cluster.sim.fail(TRAIN, 65, message="the data are empty")
    cluster.sim.look_on()
    cluster.edit(suspend=True, stages=stages(512))
    await cluster.look()
    cluster.sim.look_on()
    cluster.edit(suspend=False)
    await cluster.finish()
    assert f"because prepare.sequenceLength of {PREPARE} changed: 256 -> 512" in await asked(TRAIN)


async def test_an_edit_before_inventory_answered_hides_nothing(cluster: Cluster, asked: Any) -> None:
    await cluster.finish()
    cluster.edit(stages=stages(512))
    await cluster.look()
    assert "nothing caused a re-run" in await asked(TRAIN), "it has no new key yet"
    cluster.edit(stages=stages(512, train={"maxTokens": 131_072}))
    await cluster.finish()
    said = await asked(TRAIN)
    assert f"because prepare.sequenceLength of {PREPARE} changed: 256 -> 512" in said
    assert f"because train.maxTokens of {TRAIN} changed: 65536 -> 131072" in said


async def test_content_that_changed_and_a_rubric_that_was_taken_over_are_told(
    cluster: Cluster, asked: Any
) -> None:
    await cluster.finish()
    cluster.sim.content = "other documents"
    cluster.edit(maxParallelLanes=2)
    await cluster.finish()
    (cause,) = {line for line in (await asked("annotate/0-15")).splitlines() if "because" in line}
    assert "because content of datasets of pretrain/inventory changed" in cause
    assert "because content of datasets of pretrain/inventory changed" in await asked("inventory")
    cluster.rubric("Score it well.")
    cluster.edit(maxParallelLanes=3)
    await cluster.look()
    cluster.sim.until("pretrain/annotate/0-15")
    cluster.rubric("Score it better.")
    cluster.manifest["metadata"]["annotations"] = {TAKE_OVER: "now"}
    await cluster.finish()
    cause = "because judge.rubric.instructions of pretrain/annotate/0-15 changed: Score it well. -> Score it "
    assert cause in await asked("annotate/0-15")


async def test_a_live_run_tells_of_attempts_that_an_edit_deleted(cluster: Cluster, asked: Any) -> None:
    await cluster.look()
    cluster.sim.until(TRAIN)
    cluster.edit(stages=stages(512))
    await cluster.look()
    cluster.sim.until(PREPARE)
    cluster.sim.until(TRAIN)
    assert f"because prepare.sequenceLength of {PREPARE} changed: 256 -> 512" in await asked(TRAIN)


async def test_why_an_attempt_failed_is_told_when_its_pods_are_gone(cluster: Cluster, asked: Any) -> None:
    await cluster.look()
    cluster.sim.until(TRAIN)
    for _ in range(5):
        cluster.sim.fail(TRAIN)
        cluster.sim.look_on()
        cluster.sim.now += 600
        cluster.sim.look_on()
    assert cluster.status.phase is Phase.FAILED
    cluster.sim.children.clear()
    number = cluster.status.failures[-1].attempt
    said = (await asked("train/conditioned")).splitlines()
    assert said[0] == (f"{TRAIN}  attempt {number} failed (Application): pod-0: ended with exit code 1")
    assert said[1].strip() == "the last line"
    console = Console(width=200)
    with console.capture() as shown:
        console.print(tree_and_note("test", cluster.status))
    assert "the last line" in shown.get()
    assert cluster.status.failures == cluster.sim.look().status.failures


async def test_a_step_that_has_no_key_yet_says_why_it_failed(cluster: Cluster, asked: Any) -> None:
    await cluster.look()
    cluster.sim.look_on()
    cluster.sim.fail("pretrain/inventory", 65, message="the data are empty")
    cluster.sim.look_on()
    assert "(User): pod-0: the data are empty" in await asked("inventory")


async def test_what_another_version_wrote_is_passed_over(cluster: Cluster, asked: Any) -> None:
    await cluster.finish()
    for place in [place for place in cluster.api.objects if ".started-1" in place]:
        cluster.api.objects[place]["data"]["start.json"] = '{"spec": {"of": "tomorrow"}}'
    cluster.edit(maxParallelLanes=2)
    await cluster.finish()
    assert "nothing caused a re-run" in await asked(TRAIN)
