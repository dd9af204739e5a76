"""The spec of a run as a graph of steps: which steps there are, with which configs and inputs. Pure."""

from collections.abc import Iterator, Mapping

from ixt_operator.api.run import Arm, IXTRun, Stage
from ixt_operator.planner.rounds import HOLDOUT, reported, reported_start, round_nodes
from ixt_operator.planner.spec import Lane, judge_of, lanes, name_of, node_of, reference_of
from ixt_operator.planner.steps import evaluate_of, prepare_fields, prepare_of, start_of, train_of
from ixt_workloads.contract.configs import AnnotateConfig, InventoryConfig, ReportConfig, ReportLane
from ixt_workloads.contract.graph import PIN, Keyed, Node, resolve
from ixt_workloads.contract.settings import ExistingFeedback, Judge


def sample_percent_of(arm: Arm, stage: Stage) -> int:
    """Percent of a stage's documents that an arm has annotated: all, where feedback exists already."""
    if stage.annotate.existing:
        return 100
    return arm.sample_percent or stage.annotate.sample_percent


def bands(run: IXTRun, stage: Stage) -> tuple[tuple[int, int], ...]:
    """The bands of a stage's sample, as first and last percent. It is cut at every arm's percentage, so that
    arms share the bands that they have in common. Samples of a policy are annotated whole: there are none."""
    if stage.rollout:
        return ()
    arms = (arm for arm in run.spec.arms if arm.method.uses_feedback)
    ends = sorted({sample_percent_of(arm, stage) for arm in arms})
    return tuple(zip([0, *ends], ends, strict=False))


def stage_nodes(run: IXTRun, position: int) -> tuple[Node, ...]:
    """The nodes of a stage in the order in which they are started, inputs before their users: what all arms
    share, what the reference arm is planned by, then arm by arm; in the last stage the report comes last."""
    stage = run.spec.stages[position]
    judge = judge_of(run)
    found = [_inventory(run, stage, judge)]
    found += round_nodes(run, position) if stage.rollout else _document_nodes(run, position, judge)
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
    reference = stage.annotate.reference_field
    existing = stage.annotate.existing or (ExistingFeedback(score_field=reference) if reference else None)
    if existing:
        # What the scores mean is Prepare's matter.
        existing = ExistingFeedback(score_field=existing.score_field, critique_field=existing.critique_field)
    config = InventoryConfig(
        datasets=stage.datasets,
        existing=existing,
        holdout_documents=stage.evaluate.holdout_documents,
        tasks=stage.evaluate.tasks,
        harness=stage.evaluate.harness,
        judge=judge if _judges(run, stage) else None,
        model=run.spec.model if first else None,
        rollout=stage.rollout is not None,
        verifier=stage.rollout.verifier if stage.rollout else None,
    )
    return node_of(config, {"datasets": PIN + "datasets"}, stage)


def _judges(run: IXTRun, stage: Stage) -> bool:
    """Whether a judge reads anything of a stage."""
    if stage.rollout:
        return any(arm.method.judges_samples for arm in run.spec.arms)
    return bool(bands(run, stage)) and not stage.annotate.existing


def _annotations(run: IXTRun, stage: Stage, judge: Judge | None) -> Iterator[Node]:
    asked = None if stage.annotate.existing else judge
    inputs = {"inventory": name_of("Inventory", stage)}
    if not stage.annotate.existing:
        inputs["judge"] = PIN + "judge"
    gates = stage.annotate.gates
    for start, end in bands(run, stage):
        config = AnnotateConfig(judge=asked, gates=gates, from_percent=start, to_percent=end)
        yield node_of(config, inputs, stage, part=_band(start, end))
    if bands(run, stage) and stage.evaluate.holdout_documents:
        config = AnnotateConfig(judge=asked, gates=gates, holdout=True)
        yield node_of(config, inputs, stage, part=HOLDOUT)


def _document_nodes(run: IXTRun, position: int, judge: Judge | None) -> Iterator[Node]:
    """The nodes of a stage that trains on documents, but for its Inventory."""
    stage = run.spec.stages[position]
    yield from _annotations(run, stage, judge)
    reference = reference_of(run)
    if reference:
        yield from _prepares(run, stage, reference)
    for arm in run.spec.arms:
        if arm is not reference:
            yield from _prepares(run, stage, arm)
        for seed in arm.seeds:
            yield from _lane(run, position, Lane(arm, seed))


def _band(start: int, end: int) -> str:
    return f"{start}-{end}"


def _paid(run: IXTRun, stage: Stage, arm: Arm) -> tuple[str, ...]:
    """The bands that an arm reads, whose annotation it pays for."""
    limit = sample_percent_of(arm, stage) if arm.method.uses_feedback else 0
    return tuple(_band(start, end) for start, end in bands(run, stage) if end <= limit)


def _holdout(run: IXTRun, stage: Stage) -> str | None:
    wanted = bands(run, stage) and stage.evaluate.holdout_documents
    return name_of("Annotate", stage, part=HOLDOUT) if wanted else None


def _prepares(run: IXTRun, stage: Stage, arm: Arm) -> Iterator[Node]:
    """The Prepares of an arm: one, or one for each of several seeds that draw."""
    paid = _paid(run, stage, arm)
    holdout = _holdout(run, stage)
    found: dict[str, Node] = {}
    for seed in arm.seeds:
        lane = Lane(arm, seed)
        config, inputs = prepare_of(run, stage, lane)
        inputs |= {f"feedback/{band}": name_of("Annotate", stage, part=band) for band in paid}
        if holdout:
            inputs["holdout"] = holdout
        node = node_of(config, inputs, stage, **prepare_fields(run, stage, lane))
        found.setdefault(node.name, node)
    yield from found.values()


def _lane(run: IXTRun, position: int, lane: Lane) -> Iterator[Node]:
    stage = run.spec.stages[position]
    prepare = name_of("Prepare", stage, **prepare_fields(run, stage, lane))
    train = name_of("Train", stage, **lane.own)
    yield node_of(*train_of(run, position, lane, prepare, start_of(run, position, lane)), stage, **lane.own)
    yield node_of(*evaluate_of(run, stage, lane, prepare, train), stage, **lane.own)


def _report(run: IXTRun) -> Node:
    rows = tuple(_row(run, stage, lane) for stage in run.spec.stages for lane in lanes(run))
    names = {name for row in rows for name in row.nodes}
    return node_of(ReportConfig(title=run.metadata.name, lanes=rows), {name: name for name in sorted(names)})


def _row(run: IXTRun, stage: Stage, lane: Lane) -> ReportLane:
    """What the report is told of a lane in a stage."""
    rounds = reported(stage, lane)
    made = rounds[-1] if rounds else None
    bands_read = (name_of("Annotate", stage, part=band) for band in _paid(run, stage, lane.arm))
    return ReportLane(
        stage=stage.name,
        stage_type=stage.type,
        arm=lane.arm.name,
        method=lane.arm.method,
        seed=lane.seed,
        inventory=name_of("Inventory", stage),
        annotate=tuple(each.annotate for each in rounds) if made else tuple(bands_read),
        holdout=_holdout(run, stage),
        prepare=made.prepare if made else name_of("Prepare", stage, **prepare_fields(run, stage, lane)),
        train=made.train if made else name_of("Train", stage, **lane.own),
        evaluate=made.evaluate if made else name_of("Evaluate", stage, **lane.own),
        rounds=rounds,
        start=reported_start(stage, lane),
    )
