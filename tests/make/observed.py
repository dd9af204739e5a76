"""A platform without processes: what a run's children do is told by the test, time is a number.

Every plan that is carried out is held against what must never happen.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import MAX_STATUS_BYTES, ConditionType, Phase, Reason, RunStatus
from ixt_operator.planner.child import Child
from ixt_operator.planner.events import Event, events
from ixt_operator.planner.now import Bounds, Life
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_operator.planner.plan import Plan, plan
from ixt_operator.planner.stalled import Trouble, stalled
from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import Outcome, Progress, Result
from ixt_workloads.contract.versions import read_known
from make import runs

START = 1_800_000_000.0
TICK = 0.001
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(repr=False)
class Double:
    """A child, and its processes as the test has them."""

    child: Child
    created_at: float
    processes: list[ProcessState]
    deleting: bool = False

    @property
    def state(self) -> ChildState:
        return ChildState(
            **self.child.fields_of_node(),
            name=self.child.name,
            key=self.child.key,
            attempt=self.child.attempt,
            created_at=self.created_at,
            deleting=self.deleting,
            avoids=bool(self.child.avoid_hosts),
            processes=tuple(self.processes),
        )

    @property
    def live(self) -> bool:
        return self.state.live

    def __repr__(self) -> str:
        return self.child.name

    def become(self, **fields: Any) -> None:
        """Change all processes."""
        self.processes = [process.model_copy(update=fields) for process in self.processes]


@dataclass
class Platform:
    """The children of one run, the storage that they share, and the clock."""

    run: IXTRun
    runtime: IXTRuntime = field(default_factory=runs.runtime)
    skew: float = 0.0
    """Seconds by which the clocks of its machines are ahead of the platform's."""
    slow: bool = False
    """Deleted children stay until `vanish`."""
    now: float = START
    children: dict[str, Double] = field(default_factory=dict)
    committed: set[str] = field(default_factory=set)
    status: RunStatus | None = None
    events: list[Event] = field(default_factory=list)
    content: str = ""
    """Stands for what lies at the datasets' places."""
    told: dict[str, int] = field(default_factory=dict)
    """Newest attempt of each node that the status tells of."""

    # --- Looking.

    def observed(self) -> Observed:
        return Observed(children={name: double.state for name, double in self.children.items()})

    def plan(self, observed: Observed | None = None) -> Plan:
        """What would be done; nothing is."""
        return plan(self.run, self.runtime, observed or self.observed(), self.status, self.now)

    def look(self, observed: Observed | None = None) -> Plan:
        """Plan, keep the status if it is to be told, and carry the plan out, as controller/look.py does."""
        return self._carry_out(self.plan(observed), observed)

    def look_in_trouble(self) -> Plan:
        """The same while the run cannot be carried out."""
        spec, metadata = self.run.spec, self.run.metadata
        bounds = Bounds(suspend=spec.suspend, active_deadline_seconds=spec.active_deadline_seconds)
        previous = self.status or RunStatus()
        life = Life(metadata.name, metadata.generation, bounds, self.observed(), previous, self.now)
        moves = stalled(life, Trouble(Reason.RUNTIME_NOT_FOUND, "there is no IXTRuntime cpu"))
        assert not moves.create
        return self._carry_out(moves, None)

    def _carry_out(self, moves: Plan, observed: Observed | None) -> Plan:
        self._check_status(moves)
        if moves.tells:
            self._tell(moves, observed or self.observed())
        for name in moves.delete:
            self.delete(name)
        for child in moves.scale:
            self.scale(child)
        for child in moves.create:
            self.create(child)
        self._check_moves(moves)
        return moves

    def look_on(self) -> Plan:
        """Look until nothing is created or deleted any more, as what calls for a look at once gets it."""
        for _ in range(20):
            moves = self.look()
            if not moves.create and not moves.delete:
                return moves
        raise AssertionError(f"looks at once without end: {moves}")

    def _tell(self, moves: Plan, observed: Observed) -> None:
        self.events += events(self.status, moves.status, moves.news)
        # As another leader reads it: what is not written is not remembered.
        self.status = read_known(RunStatus, moves.status.model_dump(mode="json", exclude_none=True))
        for child in observed.children.values():
            self.told[child.node] = max(child.attempt, self.told.get(child.node, -1))

    def delete(self, name: str) -> None:
        double = self.children.get(name)
        if double and self.slow:
            double.deleting = True
        else:
            self.children.pop(name, None)

    def create(self, child: Child) -> None:
        """What a platform does with a child, after a look at what must never happen."""
        assert LABEL.fullmatch(child.name), child.name
        assert len(child.name) <= 52, child.name
        if child.name in self.children:
            return
        others = [double for double in self.children.values() if double.live]
        if child.server:
            holders = [double.child.name for double in others if holds_devices(double)]
            assert not holders, f"{child.name} starts beside {holders}"
        else:
            self._check_tasks(child, others)
        pending = [ProcessState(index=i, phase=ProcessPhase.PENDING) for i in range(child.indexes)]
        self.children[child.name] = Double(child, self.now, pending)

    def scale(self, child: Child) -> None:
        double = self.children.get(child.name)
        if double:
            more = range(len(double.processes), child.indexes)
            pending = [ProcessState(index=index, phase=ProcessPhase.PENDING) for index in more]
            double.processes = [*double.processes, *pending][: child.indexes]

    def _check_tasks(self, child: Child, others: list[Double]) -> None:
        task = child.task
        assert task
        assert task.attempt == child.attempt
        twins = [double.child.name for double in others if double.child.node == child.node]
        assert not twins, f"{child.name} starts while {twins} live"
        assert child.attempt > self.told.get(child.node, -1), f"{child.name} uses a number again"
        missing = [role for role, key in task.inputs.items() if key not in self.committed]
        assert not missing, f"{child.name} starts without {missing}"
        kind = KINDS[child.kind]
        if kind.holds_devices:
            servers = [double.child.name for double in others if double.child.server]
            assert not servers, f"{child.name} beside {servers}"
        if child.arm:
            busy = {d.child.node for d in others if d.child.arm and not d.child.server}
            assert len(busy) < self.run.spec.max_parallel_lanes, f"{child.name} beside {busy}"
        if child.stage and not child.arm:
            same = [
                d.child.name
                for d in others
                if d.child.kind == child.kind and not d.child.server and not d.child.arm
            ]
            assert not same, f"{child.name} beside {same}"

    def _check_status(self, moves: Plan) -> None:
        text = moves.status.model_dump_json(exclude_none=True)
        assert RunStatus.model_validate_json(text) == moves.status
        assert len(text.encode()) <= MAX_STATUS_BYTES
        assert_conditions(moves.status)
        old = self.status
        if old and old.observed_generation == moves.status.observed_generation:
            assert moves.status.summary.progress_percent >= old.summary.progress_percent

    def _check_moves(self, moves: Plan) -> None:
        if moves.finished:
            assert not moves.create
            assert not [double for double in self.children.values() if double.live and not double.deleting]
            assert moves.requeue_after is None

    # --- What happens to children.

    def newest(self, node: str) -> Double:
        """The newest child of a node."""
        found = [double for double in self.children.values() if double.child.node == node]
        assert found, f"no child of {node}, only {sorted(d.child.node for d in self.children.values())}"
        return max(found, key=lambda double: double.child.attempt)

    def nodes(self) -> list[str]:
        """Nodes that have live children."""
        return sorted(double.child.node for double in self.children.values() if double.live)

    def start(self, node: str) -> None:
        self.newest(node).become(phase=ProcessPhase.RUNNING, reason="")

    def finish(self, node: str, result: Result | None = None) -> None:
        """The newest attempt does its work and ends."""
        self.end(self.newest(node), result)

    def end(self, double: Double, result: Result | None = None) -> None:
        task = double.child.task
        assert task
        self.now += TICK
        done = result or (self._inventory(task) if task.probe else self._step(task))
        double.become(phase=ProcessPhase.SUCCEEDED, exit_code=0, result=done, **self._times())

    def fail(self, node: str, code: int | None = 1, reason: str = "", index: int = 0, **result: Any) -> None:
        """One process of the newest attempt fails, and the others are stopped for it."""
        double = self.newest(node)
        stopped = {"phase": ProcessPhase.FAILED, "exit_code": 143, "ended_at": self.now + 0.5}
        double.processes = [
            process
            if process.phase in (ProcessPhase.SUCCEEDED, ProcessPhase.FAILED)
            else process.model_copy(update=stopped)
            for process in double.processes
        ]
        told = Result(outcome=Outcome.FAILED, **result) if result else None
        double.processes[index] = ProcessState(
            index=index,
            phase=ProcessPhase.FAILED,
            where=f"pod-{index}",
            exit_code=code,
            reason=reason,
            result=told,
            **self._times(),
            last_log="the last line",
        )

    def _times(self) -> dict[str, float]:
        """When a process that ends now has ended, by its machine's clock and by the platform's."""
        return {"ended_at": self.now + self.skew, "told_at": self.now}

    def progress(self, node: str, index: int = 0, **fields: Any) -> None:
        processes = self.newest(node).processes
        told = {"phase": ProcessPhase.RUNNING, "progress": Progress(**fields)}
        processes[index] = processes[index].model_copy(update=told)

    def serve(self, stage: str = "pretrain", phase: ProcessPhase = ProcessPhase.READY, **fields: Any) -> None:
        """All of a stage's judges are in a phase."""
        self.newest(f"{stage}/judge").become(phase=phase, **fields)

    def lose(self, node: str) -> None:
        """The newest child of a node vanishes without a trace."""
        del self.children[self.newest(node).child.name]

    def vanish(self) -> None:
        """What is being deleted is gone."""
        self.children = {name: double for name, double in self.children.items() if not double.deleting}

    def forget(self) -> None:
        """The status is lost."""
        self.status = None
        self.told = {}

    def _inventory(self, task: Task) -> Result:
        config = task.config
        assert isinstance(config, InventoryConfig)
        places = {"datasets": " ".join(dataset.uri for dataset in config.datasets) + self.content}
        places["tasks"] = " ".join(evaluated.uri for evaluated in config.tasks)
        if config.harness:
            places["harness"] = " ".join(asked.name for asked in config.harness.tasks)
        if config.judge:
            places["judge"] = config.judge.source or config.judge.model or ""
        if config.model:
            places["model"] = config.model.source or config.model.config or ""
            places["tokenizer"] = config.model.source or config.model.tokenizer or ""
        pins = {name: hashlib.sha256(place.encode()).hexdigest() for name, place in places.items() if place}
        keyed = task.keyed(pins)
        key = keyed[task.node].key
        outcome = Outcome.CACHED if key in self.committed else Outcome.COMMITTED
        self.committed.add(key)
        there = tuple(place for place, node in enumerate(keyed.values()) if node.key in self.committed)
        return Result(outcome=outcome, key=key, pins=pins, committed=there)

    def _step(self, task: Task) -> Result:
        if task.key in self.committed:
            return Result(outcome=Outcome.CACHED, key=task.key)
        self.committed.add(task.key)
        return Result(outcome=Outcome.COMMITTED, key=task.key, flops={task.config.kind.lower(): 1000})

    # --- Whole runs.

    def history(self, limit: int = 200) -> Iterator[tuple[str, ...]]:
        """Let all go well; after each look, the nodes whose children were created by it."""
        for _ in range(limit):
            moves = self.look()
            yield tuple(child.node for child in moves.create)
            if moves.finished:
                return
            if not moves.create and not moves.delete:
                self.calm(moves)
        raise AssertionError(f"no end after {limit} looks: {self.status and self.status.summary}")

    def calm(self, moves: Plan) -> None:
        """All that runs does its work; when there is none, what was waited for comes."""
        before = self.observed()
        self.vanish()
        for double in list(self.children.values()):
            if double.child.server:
                double.become(phase=ProcessPhase.READY, restarts=0, reason="", exit_code=None, result=None)
            elif double.live:
                self.end(double)
        idle = self.observed() == before and not moves.delete
        self.now += (moves.requeue_after or 0.0) + TICK if idle else TICK

    def until(self, node: str, limit: int = 100) -> None:
        """Let all go well until a child of the node lives."""
        for _ in range(limit):
            moves = self.look_on()
            if node in self.nodes():
                return
            assert not moves.finished, moves.status.summary
            self.calm(moves)
        raise AssertionError(f"{node} never started")


def assert_conditions(status: RunStatus) -> None:
    """All conditions are there, none contradicts another, and the phase follows from them."""
    assert {condition.type for condition in status.conditions} == set(ConditionType)
    holding = [type_ for type_ in ConditionType if status.is_true(type_)]
    doing = [type_ for type_ in holding if type_ is not ConditionType.ACCEPTED]
    assert len(doing) <= 1, doing
    if ConditionType.ACCEPTED not in holding:
        assert set(doing) <= {ConditionType.SUSPENDED, ConditionType.FAILED}
    ends = {ConditionType.COMPLETE: Phase.COMPLETE, ConditionType.FAILED: Phase.FAILED}
    for type_, phase in ends.items():
        assert (type_ in doing) is (status.phase is phase)
        assert (status.completion_time is not None) is status.ended


def holds_devices(double: Double) -> bool:
    return double.child.server or KINDS[double.child.kind].holds_devices


def edited(run: IXTRun, change: Callable[[dict[str, Any]], None]) -> IXTRun:
    """The run after an edit of its manifest; the API server counts it."""
    manifest = run.model_dump(mode="json", exclude_unset=True)
    change(manifest["spec"])
    manifest["metadata"]["generation"] = run.metadata.generation + 1
    return IXTRun.model_validate(manifest)


def flat(history: Iterable[tuple[str, ...]]) -> list[str]:
    """All nodes in the order in which their children were created."""
    return [node for created in history for node in created]
