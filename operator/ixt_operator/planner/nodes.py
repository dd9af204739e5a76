"""The spec of a run as a graph of steps: which steps there are, with which configs and inputs. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ixt_operator.api.run import Arm, IXTRun, Stage, conditioning_of
from ixt_operator.planner.observed import JUDGE
from ixt_operator.planner.spec import judge_of, scaled_train
from ixt_workloads.contract.configs import (
    AnnotateConfig,
    EvaluateConfig,
    InventoryConfig,
    PrepareConfig,
    ReportConfig,
    ReportLane,
    TrainConfig,
)
from ixt_workloads.contract.graph import PIN, Keyed, Node, resolve
from ixt_workloads.contract.settings import Judge, Method

ANNEAL_PERCENT = 10
"""The Annealed arm trains the last tenth of its tokens on the top level (method: honest baselines)."""

REPORT = "report"


class Lane(NamedTuple):
    """One arm with one seed, from the first stage to the last."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Name of the lane, as node names end in it."""
        return f"{self.arm.name}-s{self.seed}"


def lanes(run: IXTRun) -> tuple[Lane, ...]:
    """All lanes, arm by arm."""
    return tuple(Lane(arm, seed) for arm in run.spec.arms for seed in arm.seeds)


def step_covers(stage: str, step: str, node: str) -> bool:
    """Whether a status entry (`train/conditioned`) stands for a node (`pretrain/train/conditioned-s0`)."""
    return node in (step, f"{stage}/{step}") or node.rpartition("-s")[0] == f"{stage}/{step}"


def judge_node(stage: str) -> str:
    """Name of the node of a stage's judge."""
    return f"{stage}/{JUDGE}"


def uses_feedback(arm: Arm) -> bool:
    """Whether an arm needs feedback on its documents, and pays for it."""
    return arm.method is not Method.NEXT_TOKEN


def sample_percent_of(arm: Arm, stage: Stage) -> int:
    """Percent of a stage's documents that an arm has annotated; feedback that exists already is free."""
    if stage.annotate.existing:
        return 100
    return arm.sample_percent or stage.annotate.sample_percent


def bands(run: IXTRun, stage: Stage) -> tuple[tuple[int, int], ...]:
    """The sample cut at every arm's percentage, so that arms share what they have in common."""
    ends = sorted({sample_percent_of(arm, stage) for arm in run.spec.arms if uses_feedback(arm)})
    return tuple(zip([0, *ends], ends, strict=False))


def stage_nodes(run: IXTRun, position: int) -> tuple[Node, ...]:
    """The nodes of a stage, inputs before their users; the last stage's end in the report."""
    stage = run.spec.stages[position]
    judge = judge_of(run)
    found = [_inventory(run, stage, judge), *_annotations(run, stage, judge)]
    found += [_prepare(run, stage, arm, judge) for arm in run.spec.arms]
    for lane in lanes(run):
        found += _lane(run, position, lane)
    if position == len(run.spec.stages) - 1:
        found.append(_report(run))
    return tuple(found)


def resolve_run(run: IXTRun, pins: Mapping[str, Mapping[str, str]]) -> dict[str, Keyed]:
    """Keys of the nodes of all stages that are pinned, up to the first that is not.

    `pins` are each stage's own, by its name; what an earlier stage pinned holds for the later ones.
    """
    found: dict[str, Keyed] = {}
    merged: dict[str, str] = {}
    for position, stage in enumerate(run.spec.stages):
        if stage.name not in pins:
            break
        merged |= pins[stage.name]
        known = {name: keyed.key for name, keyed in found.items()}
        found |= resolve(stage_nodes(run, position), merged, known)
    return found


def _inventory(run: IXTRun, stage: Stage, judge: Judge | None) -> Node:
    first = stage is run.spec.stages[0]
    config = InventoryConfig(
        datasets=stage.datasets,
        existing=stage.annotate.existing,
        holdout_documents=stage.evaluate.holdout_documents,
        tasks=stage.evaluate.tasks,
        judge=None if stage.annotate.existing or not bands(run, stage) else judge,
        model=run.spec.model if first else None,
    )
    return Node(name=f"{stage.name}/inventory", config=config, inputs={"datasets": PIN + "datasets"})


def _annotations(run: IXTRun, stage: Stage, judge: Judge | None) -> Iterator[Node]:
    existing = stage.annotate.existing is not None
    inputs = {"inventory": f"{stage.name}/inventory"} | ({} if existing else {"judge": PIN + "judge"})
    for start, end in bands(run, stage):
        config = AnnotateConfig(
            judge=None if existing else judge,
            gates=stage.annotate.gates,
            from_percent=start,
            to_percent=end,
        )
        yield Node(name=_band(stage, start, end), config=config, inputs=inputs)
    if bands(run, stage) and stage.evaluate.holdout_documents:
        config = AnnotateConfig(judge=None if existing else judge, gates=stage.annotate.gates, holdout=True)
        yield Node(name=f"{stage.name}/annotate/holdout", config=config, inputs=inputs)


def _band(stage: Stage, start: int, end: int) -> str:
    return f"{stage.name}/annotate/{start}-{end}"


def _paid(run: IXTRun, stage: Stage, arm: Arm) -> tuple[str, ...]:
    if not uses_feedback(arm):
        return ()
    limit = sample_percent_of(arm, stage)
    return tuple(_band(stage, start, end) for start, end in bands(run, stage) if end <= limit)


def _holdout(run: IXTRun, stage: Stage) -> str | None:
    wanted = bands(run, stage) and stage.evaluate.holdout_documents
    return f"{stage.name}/annotate/holdout" if wanted else None


def _prepare(run: IXTRun, stage: Stage, arm: Arm, judge: Judge | None) -> Node:
    # Feedback that exists already has a scale of its own, whatever the judge of other stages is asked.
    rubric = judge.rubric if judge and not stage.annotate.existing else None
    config = PrepareConfig(
        stage_type=stage.type,
        method=arm.method,
        conditioning=conditioning_of(run.spec, stage),
        prepare=stage.prepare,
        rubric=rubric,
        tokenizer=run.spec.model,
    )
    inputs = {"inventory": f"{stage.name}/inventory", "tokenizer": PIN + "tokenizer"}
    for band in _paid(run, stage, arm):
        inputs["feedback/" + band.rsplit("/", 1)[1]] = band
    if holdout := _holdout(run, stage):
        inputs["holdout"] = holdout
    return Node(name=f"{stage.name}/prepare/{arm.name}", config=config, inputs=inputs)


def _lane(run: IXTRun, position: int, lane: Lane) -> Iterator[Node]:
    stage = run.spec.stages[position]
    prepare, train = f"{stage.name}/prepare/{lane.arm.name}", f"{stage.name}/train/{lane.name}"
    tasks = {"tasks": PIN + "tasks"} if stage.evaluate.tasks else {}
    first = position == 0
    start = (
        {"model": PIN + "model"}
        if first
        else {"parent": f"{run.spec.stages[position - 1].name}/train/{lane.name}"}
    )
    yield Node(
        name=train,
        config=TrainConfig(
            stage_type=stage.type,
            train=scaled_train(stage, lane.arm),
            seed=lane.seed,
            anneal_percent=ANNEAL_PERCENT if lane.arm.method is Method.ANNEALED else 0,
            evaluate=stage.evaluate,
            model=run.spec.model if first else None,
        ),
        inputs={"prepare": prepare, **start, **tasks},
    )
    yield Node(
        name=f"{stage.name}/evaluate/{lane.name}",
        config=EvaluateConfig(stage_type=stage.type, evaluate=stage.evaluate, seed=lane.seed),
        inputs={"train": train, "prepare": prepare, **tasks},
    )


def _report(run: IXTRun) -> Node:
    reported = tuple(
        ReportLane(
            stage=stage.name,
            stage_type=stage.type,
            arm=lane.arm.name,
            method=lane.arm.method,
            seed=lane.seed,
            inventory=f"{stage.name}/inventory",
            annotate=_paid(run, stage, lane.arm),
            holdout=_holdout(run, stage),
            prepare=f"{stage.name}/prepare/{lane.arm.name}",
            train=f"{stage.name}/train/{lane.name}",
            evaluate=f"{stage.name}/evaluate/{lane.name}",
        )
        for stage in run.spec.stages
        for lane in lanes(run)
    )
    names = {
        name
        for lane in reported
        for name in (lane.inventory, *lane.annotate, lane.prepare, lane.train, lane.evaluate)
    } | {lane.holdout for lane in reported if lane.holdout}
    return Node(
        name=REPORT,
        config=ReportConfig(title=run.metadata.name, lanes=reported),
        inputs={name: name for name in sorted(names)},
    )
