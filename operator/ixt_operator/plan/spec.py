"""Values that a spec implies: defaults that depend on other fields, resolved once. Pure."""

from ixt_operator.api.run import Arm, IXTRun, Stage
from ixt_workloads.contract.rubrics import BUILTIN, RubricText
from ixt_workloads.contract.steps import Conditioning, Judge, LossOnFeedback, StageType, Train


def conditioning_of(run: IXTRun, stage: Stage) -> Conditioning:
    """The stage's conditioning: the run's, the stage's overrides, and loss on feedback by stage type."""
    overrides = stage.conditioning.model_dump(exclude_none=True, by_alias=False) if stage.conditioning else {}
    merged = run.spec.conditioning.model_copy(update=overrides)
    if merged.loss_on_feedback is None:
        masked = stage.type in (StageType.SFT, StageType.ROLLOUT)
        merged = merged.model_copy(
            update={"loss_on_feedback": LossOnFeedback.MASK if masked else LossOnFeedback.INCLUDE}
        )
    return merged


def rubric_of(run: IXTRun) -> RubricText | None:
    """The judge's rubric in full. Raises KeyError for a ConfigMap that was not resolved into the spec."""
    if run.spec.judge is None:
        return None
    rubric = run.spec.judge.rubric
    if rubric.inline:
        return rubric.inline
    if rubric.builtin:
        return BUILTIN[rubric.builtin]
    raise KeyError("judge.rubric.configMapKeyRef")


def judge_of(run: IXTRun) -> Judge | None:
    """The judge as the steps know it."""
    spec = run.spec.judge
    rubric = rubric_of(run)
    if spec is None or rubric is None:
        return None
    return Judge(
        source=spec.model,
        revision=spec.revision,
        model=spec.endpoint.model if spec.endpoint else None,
        active_parameters=spec.endpoint.active_parameters if spec.endpoint else None,
        rubric=rubric,
        sampling=spec.sampling,
        reasoning_parser=spec.reasoning_parser,
    )


def scaled_train(stage: Stage, arm: Arm) -> Train:
    """The stage's training with the arm's share of tokens, without what only pods need."""
    values = {name: getattr(stage.train, name) for name in Train.model_fields}
    values["max_tokens"] = max(1, stage.train.max_tokens * arm.tokens_percent // 100)
    return Train(**values)
