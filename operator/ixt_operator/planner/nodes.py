"""The spec of a run as a graph of steps: which steps there are, with which configs and inputs. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ixt_operator.api.run import Arm, IXTRun, Stage, conditioning_of
from ixt_operator.planner.spec import judge_of, scaled_train
from ixt_workloads.contract.configs import (
    AnnotateConfig,
    Config,
    EvaluateConfig,
    InventoryConfig,
    PrepareConfig,
    ReportConfig,
    ReportLane,
    TrainConfig,
)
from ixt_workloads.contract.graph import PIN, Keyed, Node, OfNode, resolve
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.settings import Judge, Method

ANNEAL_PERCENT = 10
"""Percent of its tokens, the last, that an Annealed arm trains on documents of the top level only."""

REPORT = "report"

HOLDOUT = "holdout"
"""The part of a stage's documents that is never trained on."""


class Lane(NamedTuple):
    """One arm with one seed, from the first stage to the last."""

    arm: Arm
    seed: int

    @property
    def own(self) -> dict[str, Any]:
        """The fields by which its nodes name the lane."""
        return {"arm": self.arm.name, "seed": self.seed}


def lanes(run: IXTRun) -> tuple[Lane, ...]:
    """All lanes, arm by arm."""
    return tuple(Lane(arm, seed) for arm in run.spec.arms for seed in arm.seeds)


def sample_percent_of(arm: Arm, stage: Stage) -> int:
    """Percent of a stage's documents that an arm has annotated: all, where feedback exists already."""
    if stage.annotate.existing:
        return 100
    return arm.sample_percent or stage.annotate.sample_percent


def bands(run: IXTRun, stage: Stage) -> tuple[tuple[int, int], ...]:
    """The bands of a stage's sample, as first and last percent. It is cut at every arm's percentage, so that
    arms share the bands that they have in common."""
    ends = sorted({sample_percent_of(arm, stage) for arm in run.spec.arms if arm.method.uses_feedback})
    return tuple(zip([0, *ends], ends, strict=False))


def stage_nodes(run: IXTRun, position: int) -> tuple[Node, ...]:
    """The nodes of a stage in the order in which they are started, inputs before their users: what all arms
    share, then arm by arm; in the last stage the report comes last."""
    stage = run.spec.stages[position]
    judge = judge_of(run)
    found = [_inventory(run, stage, judge), *_annotations(run, stage, judge)]
    for arm in run.spec.arms:
        found.append(_prepare(run, stage, arm, judge))
        for seed in arm.seeds:
            found += _lane(run, position, Lane(arm, seed))
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
    return _node(config, {"datasets": PIN + "datasets"}, stage)


def _annotations(run: IXTRun, stage: Stage, judge: Judge | None) -> Iterator[Node]:
    existing = stage.annotate.existing is not None
    inputs = {"inventory": _name("Inventory", stage)} | ({} if existing else {"judge": PIN + "judge"})
    for start, end in bands(run, stage):
        config = AnnotateConfig(
            judge=None if existing else judge,
            gates=stage.annotate.gates,
            from_percent=start,
            to_percent=end,
        )
        yield _node(config, inputs, stage, part=_band(start, end))
    if bands(run, stage) and stage.evaluate.holdout_documents:
        config = AnnotateConfig(judge=None if existing else judge, gates=stage.annotate.gates, holdout=True)
        yield _node(config, inputs, stage, part=HOLDOUT)


def _band(start: int, end: int) -> str:
    return f"{start}-{end}"


def _paid(run: IXTRun, stage: Stage, arm: Arm) -> tuple[str, ...]:
    """The bands that an arm reads, whose annotation it pays for."""
    limit = sample_percent_of(arm, stage) if arm.method.uses_feedback else 0
    return tuple(_band(start, end) for start, end in bands(run, stage) if end <= limit)


def _holdout(run: IXTRun, stage: Stage) -> str | None:
    wanted = bands(run, stage) and stage.evaluate.holdout_documents
    return _name("Annotate", stage, part=HOLDOUT) if wanted else None


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
    inputs = {"inventory": _name("Inventory", stage), "tokenizer": PIN + "tokenizer"}
    inputs |= {f"feedback/{band}": _name("Annotate", stage, part=band) for band in _paid(run, stage, arm)}
    if holdout := _holdout(run, stage):
        inputs["holdout"] = holdout
    return _node(config, inputs, stage, arm=arm.name)


def _lane(run: IXTRun, position: int, lane: Lane) -> Iterator[Node]:
    stage = run.spec.stages[position]
    prepare, own = _name("Prepare", stage, arm=lane.arm.name), lane.own
    tasks = {"tasks": PIN + "tasks"} if stage.evaluate.tasks else {}
    first = position == 0
    before = run.spec.stages[position - 1]
    start = {"model": PIN + "model"} if first else {"parent": _name("Train", before, **own)}
    config = TrainConfig(
        stage_type=stage.type,
        train=scaled_train(stage, lane.arm),
        seed=lane.seed,
        anneal_percent=ANNEAL_PERCENT if lane.arm.method is Method.ANNEALED else 0,
        evaluate=stage.evaluate,
        model=run.spec.model if first else None,
    )
    yield _node(config, {"prepare": prepare, **start, **tasks}, stage, **own)
    yield _node(
        EvaluateConfig(stage_type=stage.type, evaluate=stage.evaluate, seed=lane.seed),
        {"train": _name("Train", stage, **own), "prepare": prepare, **tasks},
        stage,
        **own,
    )


def _report(run: IXTRun) -> Node:
    reported = tuple(
        ReportLane(
            stage=stage.name,
            stage_type=stage.type,
            arm=lane.arm.name,
            method=lane.arm.method,
            seed=lane.seed,
            inventory=_name("Inventory", stage),
            annotate=tuple(_name("Annotate", stage, part=band) for band in _paid(run, stage, lane.arm)),
            holdout=_holdout(run, stage),
            prepare=_name("Prepare", stage, arm=lane.arm.name),
            train=_name("Train", stage, **lane.own),
            evaluate=_name("Evaluate", stage, **lane.own),
        )
        for stage in run.spec.stages
        for lane in lanes(run)
    )
    names = {name for lane in reported for name in lane.nodes}
    return _node(
        ReportConfig(title=run.metadata.name, lanes=reported), {name: name for name in sorted(names)}
    )


def _node(config: Config, inputs: dict[str, str], stage: Stage | None = None, **own: Any) -> Node:
    own |= {"kind": config.kind, "stage": stage.name if stage else "", "version": KINDS[config.kind].version}
    return Node(config=config, inputs=inputs, **own)


def _name(kind: str, stage: Stage, **own: Any) -> str:
    """Name of a node, for those that have it as an input."""
    return OfNode(kind=kind, stage=stage.name, **own).node
