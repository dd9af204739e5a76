"""What a spec implies for the steps, resolved once. Pure."""

from ixt_operator.api.run import Arm, IXTRun, Sharing, Stage
from ixt_workloads.contract.settings import Judge, Train


def judge_of(run: IXTRun) -> Judge | None:
    """The judge as the steps know it. A rubric in a ConfigMap must have been put inline before."""
    spec = run.spec.judge
    if spec is None:
        return None
    return Judge(
        source=spec.model,
        revision=spec.revision,
        credentials_secret_ref=spec.credentials_secret_ref,
        model=spec.endpoint.model if spec.endpoint else None,
        active_parameters=spec.endpoint.active_parameters if spec.endpoint else None,
        rubric=spec.rubric.text(),
        sampling=spec.sampling,
        reasoning_parser=spec.reasoning_parser,
    )


def scaled_train(stage: Stage, arm: Arm) -> Train:
    """The stage's training with the arm's share of tokens, without what only pods need."""
    values = {name: getattr(stage.train, name) for name in Train.model_fields}
    values["max_tokens"] = max(1, stage.train.max_tokens * arm.tokens_percent // 100)
    return Train(**values)


def storage_uri(run: IXTRun) -> str:
    """Where the run's artifacts lie: a folder of its own when it does not share."""
    storage = run.spec.storage
    own = storage.shared is Sharing.DISABLED
    return f"{storage.uri.rstrip('/')}/private/{run.metadata.uid}" if own else storage.uri
