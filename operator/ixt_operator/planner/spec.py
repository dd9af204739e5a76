"""What a spec implies for the steps, resolved once, and how their nodes are named. Pure."""

from typing import Any, NamedTuple

from ixt_operator.api.engine import telling
from ixt_operator.api.run import Arm, Comparison, IXTRun, Sharing, Stage
from ixt_workloads.contract.configs import Config
from ixt_workloads.contract.graph import Node, OfNode
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.settings import Generation, Judge, Method, Train


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


def reference_of(run: IXTRun) -> Arm | None:
    """The arm at whose FLOPs all others end: the first Conditioned one, or else the first. None where every
    arm's tokens are given."""
    arms = run.spec.arms
    if run.spec.comparison is Comparison.EQUAL_TOKENS or len(arms) == 1:
        return None
    return next((arm for arm in arms if arm.method is Method.CONDITIONED), arms[0])


def node_of(config: Config, inputs: dict[str, str], stage: Stage | None = None, **own: Any) -> Node:
    """The node of a step with this config; `own` are its other fields."""
    own |= {"kind": config.kind, "version": KINDS[config.kind].version}
    own["stage"] = stage.name if stage else ""
    return Node(config=config, inputs=inputs, **own)


def name_of(kind: str, stage: Stage, **own: Any) -> str:
    """Name of a node, for those that have it as an input."""
    return OfNode(kind=kind, stage=stage.name, **own).node


def serving_of(run: IXTRun, of: OfNode) -> OfNode:
    """The server that a node talks to. In the first round of a first stage the policy of all lanes is the
    run's own model: one server answers for them side by side."""
    server = of.serving()
    if server.round == 1 and server.stage == run.spec.stages[0].name:
        return OfNode(kind=server.kind, stage=server.stage, round=1, server=True)
    return server


def trained(stage: Stage, lane: Lane) -> str:
    """Name of the node that makes the model with which a lane leaves a stage."""
    last = {"round": stage.rollout.rounds} if stage.rollout else {}
    return name_of("Train", stage, **lane.own, **last)


def generation_of(stage: Stage) -> Generation:
    """How a Rollout stage's samples are written, without what other steps read."""
    assert stage.rollout
    return Generation(**{name: getattr(stage.rollout, name) for name in Generation.model_fields})


def evaluation_of(stage: Stage) -> Generation:
    """How a Rollout stage's models answer held-out prompts."""
    assert stage.rollout
    asked = stage.rollout.evaluation
    return Generation(
        samples_per_prompt=asked.samples,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        max_tokens=asked.max_tokens or stage.rollout.max_tokens,
    )


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
        second=spec.second.model if spec.second else None,
        rubric=spec.rubric.text(),
        sampling=spec.sampling,
        reasoning_parser=spec.reasoning_parser,
        system_prompt=spec.system_prompt,
        chat_template_kwargs=spec.chat_template_kwargs,
        engine_args=() if spec.endpoint else telling(spec.engine.args),
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
