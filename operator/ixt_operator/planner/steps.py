"""Configs and inputs of a stage's steps, as far as they are alike in stages of every type. Pure."""

from typing import Any

from ixt_operator.api.run import Arm, IXTRun, Stage, conditioning_of
from ixt_operator.planner.spec import Lane, judge_of, name_of, reference_of, scaled_train, trained
from ixt_workloads.contract.configs import EvaluateConfig, PrepareConfig, ReferenceStage, TrainConfig
from ixt_workloads.contract.graph import PIN
from ixt_workloads.contract.settings import Decontamination, Method

Inputs = dict[str, str]
"""For each role of an input the name of the node or pin that fills it."""

ANNEAL_PERCENT = 10
"""Percent of its tokens, the last, that an Annealed arm trains on documents of the top level only."""

EVAL_POINTS = 20
"""Evaluations in a training by default: enough to see a curve, and to compare it with that of an arm which is
added later."""


def prepare_of(run: IXTRun, stage: Stage, lane: Lane) -> tuple[PrepareConfig, Inputs]:
    """The Prepare that a lane reads, without its feedback."""
    judge = judge_of(run)
    # Feedback that exists already has a scale of its own, whatever the judge of other stages is asked.
    judged = lane.arm.method.judges_samples if stage.rollout else not stage.annotate.existing
    rubric = judge.rubric if judge and judged else None
    clean = stage.prepare.decontamination is Decontamination.ENABLED
    config = PrepareConfig(
        stage_type=stage.type,
        method=lane.arm.method if stage.rollout else lane.arm.method.on_documents,
        conditioning=conditioning_of(run.spec, stage),
        prepare=stage.prepare,
        rubric=rubric,
        scale=stage.annotate.existing.scale if stage.annotate.existing else None,
        gates=stage.annotate.gates,
        tasks=stage.evaluate.tasks if clean else (),
        tokenizer=run.spec.model,
        verifier=stage.rollout.verifier if stage.rollout else None,
        seed=lane.seed if _draws(run, stage, lane.arm) else 0,
    )
    inputs = {"inventory": name_of("Inventory", stage), "tokenizer": PIN + "tokenizer"}
    if config.tasks:
        inputs["tasks"] = PIN + "tasks"
    before = run.spec.stages[: run.spec.stages.index(stage)]
    inputs |= {f"earlier/{place}": name_of("Inventory", each) for place, each in enumerate(before)}
    return config, inputs


def prepare_fields(run: IXTRun, stage: Stage, lane: Lane) -> dict[str, Any]:
    """The fields by which the Prepare that a lane reads is named, outside of Rollout stages: the lane's where
    several seeds draw, else the arm's."""
    own = len(lane.arm.seeds) > 1 and _draws(run, stage, lane.arm)
    return lane.own if own else {"arm": lane.arm.name}


def train_of(
    run: IXTRun, position: int, lane: Lane, prepare: str, start: str, until: int = 0
) -> tuple[TrainConfig, Inputs]:
    """A training of a lane on what `prepare` makes, from the model that `start` makes; in a Rollout
    stage that of the round `until`."""
    stage = run.spec.stages[position]
    compared = _compared(run, position, lane, until)
    config = TrainConfig(
        stage_type=stage.type,
        train=scaled_train(stage, lane.arm),
        seed=lane.seed,
        anneal_percent=_anneal_percent(lane.arm),
        reference=tuple(compared.values()),
        eval_points=0 if stage.train.eval_every_tokens else EVAL_POINTS,
        # What is asked at the end only, no training depends on.
        evaluate=stage.evaluate.model_copy(update={"harness": None}),
        model=run.spec.model if start.startswith(PIN) else None,
        trackers=run.spec.trackers,
    )
    inputs = {"prepare": prepare, "model" if start.startswith(PIN) else "parent": start}
    inputs |= {f"reference/{place}": name for place, name in enumerate(compared)}
    return config, inputs | _tasks(stage)


def evaluate_of(
    run: IXTRun, stage: Stage, lane: Lane, prepare: str, train: str
) -> tuple[EvaluateConfig, Inputs]:
    """The evaluation of what a lane has trained."""
    config = EvaluateConfig(
        stage_type=stage.type, evaluate=stage.evaluate, seed=lane.seed, trackers=run.spec.trackers
    )
    harness = {"harness": PIN + "harness"} if stage.evaluate.harness else {}
    return config, {"train": train, "prepare": prepare, **_tasks(stage), **harness}


def start_of(run: IXTRun, position: int, lane: Lane) -> str:
    """Name of what makes the model with which a lane enters a stage: a node or a pin."""
    return trained(run.spec.stages[position - 1], lane) if position else PIN + "model"


def _draws(run: IXTRun, stage: Stage, arm: Arm) -> bool:
    """Whether an arm's seeds draw which documents go without feedback, or whose feedback they get."""
    dropout = conditioning_of(run.spec, stage).dropout_percent
    return arm.method is Method.SHUFFLED or (arm.method.conditions and dropout > 0)


def _tasks(stage: Stage) -> Inputs:
    return {"tasks": PIN + "tasks"} if stage.evaluate.tasks else {}


def _compared(run: IXTRun, position: int, lane: Lane, until: int) -> dict[str, ReferenceStage]:
    """What a lane of the reference arm, that of the same seed or else the first, reads in each stage up to
    this one, and in it up to the round `until`, by the names of its Prepares; empty for an arm whose tokens
    are given."""
    arm = reference_of(run)
    if arm is None or arm is lane.arm:
        return {}
    other = Lane(arm, lane.seed if lane.seed in arm.seeds else arm.seeds[0])
    found: dict[str, ReferenceStage] = {}
    for place, stage in enumerate(run.spec.stages[: position + 1]):
        train, length = scaled_train(stage, arm), stage.prepare.sequence_length
        read = ReferenceStage(
            sequences=train.steps(length) * train.batch_sequences(length), anneal_percent=_anneal_percent(arm)
        )
        rounds = stage.rollout.rounds if stage.rollout and place < position else until
        prepares = (
            [name_of("Prepare", stage, **other.own, round=number) for number in range(1, rounds + 1)]
            if stage.rollout
            else [name_of("Prepare", stage, **prepare_fields(run, stage, other))]
        )
        found |= dict.fromkeys(prepares, read)
    return found


def _anneal_percent(arm: Arm) -> int:
    return ANNEAL_PERCENT if arm.method is Method.ANNEALED else 0
