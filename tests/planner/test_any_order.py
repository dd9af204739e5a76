"""Whatever happens in whatever order, a run does nothing that it must not and comes to its end.

`Platform` holds every plan against the rules; here hypothesis looks for an order of events that breaks one.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from make import kinds, rollouts, runs
from make.observed import Double, Platform, edited

from ixt_operator.api.status import ConditionType, RunStatus
from ixt_operator.planner.now import Now
from ixt_operator.planner.observed import Observed, ProcessPhase
from ixt_operator.planner.plan import Plan
from ixt_operator.planner.survey import survey
from ixt_workloads.contract.exits import Exit

Spec = dict[str, Any]

EXISTING = {"from": {"scoreField": "score", "critiqueField": "critique"}}
SHAPES: dict[str, Spec] = {
    "default": {},
    "two stages": {"stages": [runs.stage("pretrain"), runs.stage("midtrain")]},
    "arms": {
        "arms": [
            runs.arm("c", seeds=[0, 1]),
            runs.arm("n", "NextToken"),
            runs.arm("f", "Filtered", samplePercent=40),
        ],
        "maxParallelLanes": 2,
    },
    "existing": {"judge": None, "stages": [runs.stage(annotate=EXISTING)]},
    "mixed": {"stages": [runs.stage("pretrain"), runs.stage("midtrain", annotate=EXISTING)]},
    "endpoint": {"judge": {"endpoint": {"url": "https://judge.example/v1", "model": "m"}}},
    "a kind of the tests": {
        "name": kinds.SAMPLED,
        "arms": [runs.arm("c", seeds=[0, 1]), runs.arm("n", "NextToken")],
        "maxParallelLanes": 2,
    },
    "rounds": {
        "model": {"source": "file:///model"},
        "stages": [rollouts.stage()],
        "arms": [runs.arm("c", seeds=[0, 1]), runs.arm("r", "RejectionSampling", seeds=[0, 1])],
        "maxParallelLanes": 3,
    },
    "rounds between": {
        "stages": [runs.stage("sft"), rollouts.stage(rollout={"from": "Start"}), runs.stage("last")],
        "arms": [runs.arm("c"), runs.arm("s", "Shuffled")],
    },
    "deadlines": {"activeDeadlineSeconds": 500, "schedulingTimeoutSeconds": 50},
}

FAULTS: list[dict[str, Any]] = [
    {"code": 1},
    {"code": Exit.DATA, "message": "line 3 is no JSON", "hint": "mend it"},
    {"code": Exit.BUSY},
    {"code": Exit.DIVERGED},
    {"code": Exit.HUNG},
    {"code": Exit.OUT_OF_MEMORY},
    {"code": Exit.INTERRUPTED},
    {"code": 137, "reason": "OOMKilled"},
    {"code": None, "reason": "Lost"},
    {"code": None, "reason": "Evicted"},
]


def _train(spec: Spec) -> None:
    train = spec["stages"][-1]["train"]
    train["optimizer"] = {
        "learningRate": "1e-3" if train.get("optimizer") != {"learningRate": "1e-3"} else "1e-4"
    }


def _sample(spec: Spec) -> None:
    stage = spec["stages"][0]
    if "annotate" not in stage or "from" not in stage["annotate"]:
        stage["annotate"] = {"samplePercent": 55 - stage.get("annotate", {}).get("samplePercent", 15)}


def _arms(spec: Spec) -> None:
    arms = spec.setdefault("arms", [runs.arm("conditioned")])
    names = [arm["name"] for arm in arms]
    rounds = any("rollout" in stage for stage in spec["stages"])
    plain = runs.arm("extra", "Filtered", seeds=arms[0].get("seeds", [0])) if rounds else None
    spec["arms"] = arms[:-1] if "extra" in names else [*arms, plain or runs.arm("extra", "NextToken")]


def _stage(spec: Spec) -> None:
    if len(spec["stages"]) < 3:
        annotate = {} if spec.get("judge") else {"annotate": EXISTING}
        spec["stages"] = [*spec["stages"], runs.stage(f"more-{len(spec['stages'])}", **annotate)]


def _judge(spec: Spec) -> None:
    if (spec.get("judge") or {}).get("model"):
        other = spec["judge"]["model"] == "file:///judge"
        spec["judge"] = {**spec["judge"], "model": "file:///other" if other else "file:///judge"}


def _engine(spec: Spec) -> None:
    if (spec.get("judge") or {}).get("model"):
        more = {"args": ["--max-model-len=4096"], "maxReplicas": 2}
        spec["judge"] = {**spec["judge"], "engine": {} if spec["judge"].get("engine") else more}


def _served(spec: Spec) -> None:
    judge = spec.get("judge") or {}
    endpoint = {"endpoint": {"url": "https://judge.example/v1", "model": "m"}}
    if judge:
        spec["judge"] = endpoint if judge.get("model") else {"model": "file:///judge"}


def _dataset(spec: Spec) -> None:
    dataset = spec["stages"][0]["datasets"][0]
    dataset["uri"] = "file:///b.jsonl" if dataset["uri"] != "file:///b.jsonl" else "file:///a.jsonl"


def _workers(spec: Spec) -> None:
    stage = spec["stages"][0]
    stage["train"]["numNodes"] = 3 - stage["train"].get("numNodes", 1)


def _parallel(spec: Spec) -> None:
    spec["maxParallelLanes"] = 4 - spec.get("maxParallelLanes", 1)


def _rounds(spec: Spec) -> None:
    for stage in spec["stages"]:
        if "rollout" in stage:
            stage["rollout"]["rounds"] = 4 - stage["rollout"]["rounds"] % 3


def _policy(spec: Spec) -> None:
    spec["failurePolicy"] = {} if spec.get("failurePolicy") else {"application": 0, "infrastructure": 1}


EDITS: list[Callable[[Spec], None]] = [
    _train,
    _sample,
    _arms,
    _stage,
    _judge,
    _engine,
    _served,
    _dataset,
    _workers,
    _parallel,
    _rounds,
    _policy,
]


class AnyOrder(RuleBasedStateMachine):
    """A run with everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()

    platform: Platform
    stale: Observed | None = None
    moves: Plan | None = None
    faults = 0

    @initialize(shape=st.sampled_from(sorted(SHAPES)))
    def begin(self, shape: str) -> None:
        kinds.know(self.patch)
        self.platform = Platform(runs.run(**SHAPES[shape]), slow=True)

    # --- The operator.

    @rule()
    def look(self) -> None:
        self._look(None)

    @rule()
    def look_at_what_was(self) -> None:
        """A stale read. What is dangerous is not done on its word; see plan.py."""
        if self.stale is None:
            return
        moves = self.platform.plan(self.stale)
        risky = any(
            child.attempt or child.server or child.ports.keys() & {"rendezvous"} for child in moves.create
        )
        waits = any(child.server for child in self.stale.children.values())
        self._look(None if risky or waits or moves.delete or moves.finished else self.stale)

    @rule()
    def look_while_its_runtime_is_gone(self) -> None:
        self.platform.look_in_trouble()
        self.stale = None

    @rule(looks=st.integers(1, 12))
    def all_goes_well(self, looks: int) -> None:
        for _ in range(looks):
            self._look(None)
            if self.moves and not self.platform.run.spec.suspend:
                self.platform.calm(self.moves)
        self._look(None)
        self.stale = None

    @rule()
    def remember_what_is(self) -> None:
        self.stale = self.platform.observed()

    @rule(seconds=st.sampled_from([0.5, 3.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.platform.now += seconds

    @rule()
    def restart_without_status(self) -> None:
        self.platform.forget()
        self.stale = None

    def _look(self, observed: Observed | None) -> None:
        self.moves = self.platform.look(observed)
        keyed = self.moves.keyed if observed is None else {}
        for double in self.platform.children.values():
            known = keyed.get(double.child.node)
            if known and double.live and not double.deleting and known.node.kind != "Inventory":
                assert double.child.key == known.key, f"{double.child.name} goes on with an old key"
        if self.moves.status.is_true(ConditionType.COMPLETE):
            run, runtime = self.platform.run, self.platform.runtime
            now = Now(run, runtime, self.platform.observed(), RunStatus(), 0.0)
            views = survey(now)
            keys = {view.keyed.key for stage in views for view in stage.views.values() if view.keyed}
            assert keys <= self.platform.committed
        if self.moves.status.is_true(ConditionType.FAILED):
            assert self.faults or self.platform.run.spec.active_deadline_seconds
            failed = self.moves.status.condition(ConditionType.FAILED)
            assert failed
            assert failed.message

    # --- What runs.

    def _tasks(self) -> list[Double]:
        doubles = self.platform.children.values()
        return [d for d in doubles if not d.child.server and not d.state.ended]

    @precondition(lambda self: self._tasks())
    @rule(data=st.data())
    def a_step_ends_well(self, data: st.DataObject) -> None:
        self.platform.end(data.draw(st.sampled_from(self._tasks())))

    @precondition(lambda self: self._tasks())
    @rule()
    def all_steps_end_well(self) -> None:
        for double in self._tasks():
            self.platform.end(double)

    @precondition(lambda self: self._tasks())
    @rule(data=st.data(), fault=st.sampled_from(FAULTS))
    def a_step_fails(self, data: st.DataObject, fault: dict[str, Any]) -> None:
        double = data.draw(st.sampled_from(self._tasks()))
        if double is self.platform.newest(double.child.node):
            self.faults += 1
            self.platform.fail(double.child.node, **fault)

    @precondition(lambda self: self._tasks())
    @rule(data=st.data())
    def a_step_waits_for_a_node(self, data: st.DataObject) -> None:
        double = data.draw(st.sampled_from(self._tasks()))
        self.faults += 1
        double.become(blocked_since=self.platform.now, reason="Unschedulable")

    @precondition(lambda self: self.platform.children)
    @rule(data=st.data())
    def a_child_is_lost(self, data: st.DataObject) -> None:
        del self.platform.children[data.draw(st.sampled_from(sorted(self.platform.children)))]
        self.stale = None

    @precondition(lambda self: any(d.deleting for d in self.platform.children.values()))
    @rule()
    def deleted_children_are_gone(self) -> None:
        self.platform.vanish()
        self.stale = None

    def _judges(self) -> list[Double]:
        return [d for d in self.platform.children.values() if d.child.server]

    @precondition(lambda self: self._judges())
    @rule()
    def judges_are_ready(self) -> None:
        for double in self._judges():
            double.become(phase=ProcessPhase.READY, reason="")

    @precondition(lambda self: self._judges())
    @rule(code=st.sampled_from([1, Exit.CONFIG, 137]))
    def a_judge_restarts(self, code: int) -> None:
        self.faults += 1
        double = self._judges()[0]
        restarts = double.processes[0].restarts + 1
        double.become(phase=ProcessPhase.FAILED, exit_code=code, restarts=restarts)

    @precondition(lambda self: self._judges())
    @rule()
    def a_judge_is_never_ready(self) -> None:
        self.faults += 1
        self._judges()[0].become(phase=ProcessPhase.FAILED, reason="NeverReady")

    @precondition(lambda self: self._tasks())
    @rule()
    def an_answer_is_lost(self) -> None:
        for double in self._tasks():
            if double.child.task and double.child.task.probe:
                self.platform.end(double)
                double.become(result=None)
                self.faults += 1

    @precondition(lambda self: self._tasks())
    @rule(reason=st.sampled_from(["NoResult", "ResultLost"]))
    def results_are_lost(self, reason: str) -> None:
        for double in self._tasks():
            self.platform.end(double)
            double.become(phase=ProcessPhase.FAILED, exit_code=0, result=None, reason=reason)
            self.faults += 1

    # --- People, and other runs.

    @rule(edit=st.sampled_from(EDITS))
    def the_spec_is_edited(self, edit: Callable[[Spec], None]) -> None:
        self.platform.run = edited(self.platform.run, edit)

    @rule(suspend=st.booleans())
    def the_run_is_suspended_or_resumed(self, suspend: bool) -> None:
        self.platform.run = edited(self.platform.run, lambda spec: spec.update(suspend=suspend))

    @rule(data=st.data())
    def artifacts_are_deleted(self, data: st.DataObject) -> None:
        """Inventory is asked anew, as the next `ixt run` does."""
        there = sorted(self.platform.committed)
        gone = data.draw(st.sets(st.sampled_from(there), max_size=4)) if there else set()
        self.platform.committed -= gone
        self._ask_anew()

    @rule()
    def the_data_change(self) -> None:
        self.platform.content = "changed" if not self.platform.content else ""

    @precondition(lambda self: self.moves and self.moves.keyed)
    @rule(data=st.data())
    def another_run_commits(self, data: st.DataObject) -> None:
        keyed = self.moves.keyed if self.moves else {}
        ready = [
            entry.key for entry in keyed.values() if set(entry.inputs.values()) <= self.platform.committed
        ]
        self.platform.committed |= {data.draw(st.sampled_from(sorted(ready)))} if ready else set()

    def _ask_anew(self) -> None:
        self.platform.children = {
            name: d for name, d in self.platform.children.items() if d.child.kind != "Inventory"
        }
        self.stale = None

    # --- And when it is over.

    def teardown(self) -> None:
        try:
            if hasattr(self, "platform"):
                self._end()
        finally:
            self.patch.undo()

    def _end(self) -> None:
        """Once nothing fails any more, the run ends within a few looks a step."""
        if self.platform.run.spec.suspend:
            self.platform.run = edited(self.platform.run, lambda spec: spec.update(suspend=False))
        for double in self.platform.children.values():
            double.become(blocked_since=None)
        self.stale = None
        for _ in range(400):
            self._look(None)
            assert self.moves
            if self.moves.finished:
                break
            self.platform.calm(self.moves)
        else:
            raise AssertionError(f"no end: {self.platform.status and self.platform.status.summary}")


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=int(os.environ.get("IXT_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    derandomize="CI" in os.environ or "IXT_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
