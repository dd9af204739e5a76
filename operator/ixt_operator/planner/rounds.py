"""The nodes of a Rollout stage: in each round a lane's policy answers prompts, the answers are annotated and
prepared, and the next policy is trained on them. Each policy, the first too, is evaluated by its answers to
held-out prompts. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from ixt_operator.api.engine import telling
from ixt_operator.api.run import IXTRun, RolloutSpec, Stage
from ixt_operator.planner.spec import (
    Lane,
    evaluation_of,
    generation_of,
    judge_of,
    lanes,
    name_of,
    node_of,
    reference_of,
)
from ixt_operator.planner.steps import evaluate_of, prepare_of, start_of, train_of
from ixt_workloads.contract.configs import AnnotateConfig, EvaluateConfig, GenerateConfig, ReportRound
from ixt_workloads.contract.graph import PIN, Node
from ixt_workloads.contract.settings import EvalPrefix, Evaluate, Generation, RoundStart

HOLDOUT = "holdout"
"""The part of a stage's documents, or prompts, that is never trained on."""


def round_nodes(run: IXTRun, position: int) -> Iterator[Node]:
    """The nodes of all rounds in the order in which they are started: of each round all lanes' nodes of a
    kind one after another, so that a judge serves all lanes at a time and trainings run side by side. What a
    policy answers stands together, so that it is served once for the held-out prompts and for the next
    round's."""
    stage = run.spec.stages[position]
    assert stage.rollout
    reference = reference_of(run)
    # What others are planned by comes first.
    ordered = sorted(lanes(run), key=lambda lane: lane.arm is not reference)
    for number in range(stage.rollout.rounds + 1):
        after = [_Round(run, position, stage, stage.rollout, lane, number) for lane in ordered]
        following = [each._replace(number=number + 1) for each in after if number < stage.rollout.rounds]
        for place, each in enumerate(after):
            if evaluates_answers(stage):
                yield each.held_out()
            if following:
                yield following[place].generate()
        if evaluates_answers(stage):
            yield from (each.evaluate() for each in after)
        yield from (each.annotate() for each in following)
        yield from (each.prepare() for each in following)
        for each in following:
            yield each.train()
            if not evaluates_answers(stage):
                yield each.evaluate()


def evaluates_answers(stage: Stage) -> bool:
    """Whether models answer held-out prompts after each round of a stage, and before the first."""
    return bool(stage.rollout and stage.rollout.verifier and stage.evaluate.holdout_documents)


def reported(stage: Stage, lane: Lane) -> tuple[ReportRound, ...]:
    """The rounds of a lane, for the report; none of a stage of another type."""
    kinds = ("Generate", "Annotate", "Prepare", "Train", "Evaluate")
    return tuple(
        ReportRound(
            round=number,
            samples=_held_out(stage, lane, number) if evaluates_answers(stage) else None,
            **{kind.lower(): name_of(kind, stage, **lane.own, round=number) for kind in kinds},
        )
        for number in range(1, stage.rollout.rounds + 1 if stage.rollout else 1)
    )


def reported_start(stage: Stage, lane: Lane) -> str | None:
    """The evaluation of the answers that a lane's model gives before the first round, for the report."""
    return name_of("Evaluate", stage, **lane.own, round=0) if evaluates_answers(stage) else None


def _held_out(stage: Stage, lane: Lane, number: int) -> str:
    """Name of the node of a lane's answers to held-out prompts after a round."""
    return name_of("Generate", stage, **lane.own, part=HOLDOUT, round=number)


class _Round(NamedTuple):
    """One round of one lane."""

    run: IXTRun
    position: int
    stage: Stage
    rollout: RolloutSpec
    lane: Lane
    number: int

    def generate(self) -> Node:
        """The node that has the policy answer the round's prompts."""
        return self._answered(generation_of(self.stage), self._model(self.number - 1))

    def held_out(self) -> Node:
        """The node that has the round's model answer the held-out prompts."""
        prefixes = tuple(each for each in self.stage.evaluate.prefixes if each is not EvalPrefix.RANDOM)
        wanted = prefixes or (EvalPrefix.NONE,)
        return self._answered(evaluation_of(self.stage), self._model(self.number), wanted, part=HOLDOUT)

    def annotate(self) -> Node:
        """The node that has the samples verified and judged."""
        inputs = {"inventory": self._name("Generate", self.number)}
        judge = judge_of(self.run) if self.lane.arm.method.judges_samples else None
        if judge:
            inputs["judge"] = PIN + "judge"
        config = AnnotateConfig(
            judge=judge,
            gates=self.stage.annotate.gates,
            verifier=self.rollout.verifier,
            judge_sees=self.rollout.judge_sees,
        )
        return node_of(config, inputs, self.stage, **self._own)

    def prepare(self) -> Node:
        """The node that makes training sequences of the samples of this round, and of earlier ones."""
        config, inputs = prepare_of(self.run, self.stage, self.lane)
        for number in self.rollout.replayed(self.number):
            inputs[f"samples/{number}"] = self._name("Generate", number)
            inputs[f"feedback/{number}"] = self._name("Annotate", number)
        return node_of(config, inputs, self.stage, **self._own)

    def train(self) -> Node:
        """The node that trains the round's policy."""
        start = self._model(self.number - 1 if self.rollout.start is RoundStart.PREVIOUS else 0)
        prepare = self._name("Prepare", self.number)
        config, inputs = train_of(self.run, self.position, self.lane, prepare, start, self.number)
        return node_of(config, inputs, self.stage, **self._own)

    def evaluate(self) -> Node:
        """The node that evaluates the round's policy; before the first round, its answers alone."""
        prepare, train = self._name("Prepare", self.number), self._name("Train", self.number)
        config, inputs = evaluate_of(self.run, self.stage, self.lane, prepare, train)
        if not self.number:
            config, inputs = EvaluateConfig(stage_type=config.stage_type, evaluate=Evaluate(), seed=0), {}
        if evaluates_answers(self.stage):
            config = config.model_copy(update={"verifier": self.rollout.verifier})
            inputs["samples"] = _held_out(self.stage, self.lane, self.number)
        return node_of(config, inputs, self.stage, **self._own)

    def _answered(
        self, generation: Generation, policy: str, prefixes: tuple[EvalPrefix, ...] = (), **own: str
    ) -> Node:
        """The node of a policy's answers, to the round's prompts or under `prefixes` to held-out ones."""
        config = GenerateConfig(
            generation=generation,
            round=self.number,
            prefixes=prefixes,
            seed=self.lane.seed,
            engine_args=telling(self.rollout.engine.args),
            model=self.run.spec.model,
        )
        inputs = {
            "prompts": name_of("Inventory", self.stage),
            "tokenizer": PIN + "tokenizer",
            "model" if policy.startswith(PIN) else "policy": policy,
        }
        return node_of(config, inputs, self.stage, **self._own, **own)

    def _model(self, after: int) -> str:
        """Name of what makes the model that the lane has after a round; 0: with which it enters the stage."""
        return self._name("Train", after) if after else start_of(self.run, self.position, self.lane)

    @property
    def _own(self) -> dict[str, object]:
        return {**self.lane.own, "round": self.number}

    def _name(self, kind: str, number: int) -> str:
        return name_of(kind, self.stage, **{**self._own, "round": number})
