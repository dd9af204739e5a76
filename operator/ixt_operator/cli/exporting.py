"""`export` and `sample`: which of a run's models is meant, and what is known of it. The runs here are those
that were carried out, whatever stands in their manifests by now; `newest` has the newest key of each node."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ixt_operator.api.run import IXTRun, Stage
from ixt_operator.api.status import RunStatus, StepState
from ixt_operator.cli.artifacts import report_key
from ixt_operator.cli.stop import stop
from ixt_operator.manifests.messages import nearest
from ixt_operator.planner.history import Entry
from ixt_operator.planner.nodes import stage_nodes
from ixt_operator.planner.spec import name_of, storage_uri
from ixt_workloads.contract.exported import ExportQuestion, SampleQuestion
from ixt_workloads.contract.graph import PIN, Node


def lane_and_target(what: list[str], prefix: str) -> tuple[str, str]:
    """The lane, empty unless told, and the target of an export."""
    if len(what) > 2 or not re.fullmatch(r"best|none|level=\d{1,2}", prefix):
        stop("say [LANE[@STAGE]] TARGET, and for --prefix best, none or level=N")
    return what[0] if len(what) == 2 else "", what[-1]


def levels_of(text: str) -> tuple[int, ...]:
    """The numbers of levels such as 1,5."""
    if text and not re.fullmatch(r"\d{1,2}(,\d{1,2})*", text):
        stop(f"--levels: must be numbers such as 1,5, not '{text}'")
    return tuple(int(level) for level in text.split(",") if level)


class Trained(NamedTuple):
    """A training of a run that has a key."""

    stage: Stage
    node: Node
    key: str

    @property
    def name(self) -> str:
        """As it is named to `ixt export`."""
        return f"{self.node.lane}@{self.node.stage}"


def trainings(run: IXTRun, newest: Mapping[str, Entry]) -> list[Trained]:
    """The trainings of a run whose keys are known, in order."""
    return [
        Trained(stage, node, newest[node.name].key)
        for place, stage in enumerate(run.spec.stages)
        for node in _last_trainings(run, place)
        if node.name in newest
    ]


def chosen(run: IXTRun, newest: Mapping[str, Entry], wanted: str) -> Trained:
    """The training that LANE, LANE@STAGE, @STAGE or nothing means: of the last stage, and of the first lane,
    unless told. An arm's name means its first seed. What there is not ends the program; the nearest is
    named."""
    try:
        node = training_of(run, wanted)
    except LookupError as error:
        stop(str(error.args[0]))
    found = next((each for each in trainings(run, newest) if each.node.name == node.name), None)
    if found is None:
        stop(f"{node.lane}@{node.stage} is not trained yet: the run's status says how far it is")
    return found


def training_of(run: IXTRun, wanted: str) -> Node:
    """The node of the training that is meant, likewise. Raises LookupError, which names the nearest."""
    lane, _, stage = wanted.partition("@")
    stages = [each.name for each in run.spec.stages]
    if stage and stage not in stages:
        raise LookupError(f"no stage {stage}{nearest(stage, stages)}; there are {', '.join(stages)}")
    stage = stage or stages[-1]
    nodes = _last_trainings(run, stages.index(stage))
    lanes = [node.lane for node in nodes]
    node = next((node for node in nodes if not lane or lane in (node.lane, node.arm)), None)
    if node is None:
        near = nearest(lane, [*lanes, *(node.arm for node in nodes)])
        raise LookupError(f"no lane {lane}{near}; there are {', '.join(lanes)}")
    return node


def _last_trainings(run: IXTRun, place: int) -> list[Node]:
    """The nodes that make the models of a stage: in one of rollouts those of its last round."""
    stage = run.spec.stages[place]
    last = stage.rollout.rounds if stage.rollout else None
    return [
        node
        for node in stage_nodes(run, place)
        if node.kind == "Train" and node.stage == stage.name and node.round == last
    ]


def lineage(run: IXTRun, newest: Mapping[str, Entry], of: Trained) -> dict[str, str]:
    """Keys of what a training was made of, by node, the training last."""
    nodes = {node.name: node for place, _ in enumerate(run.spec.stages) for node in stage_nodes(run, place)}
    found: dict[str, str] = {}

    def add(name: str) -> None:
        if name in found or name not in newest:
            return
        for other in nodes[name].inputs.values():
            if not other.startswith(PIN) and other in nodes:
                add(other)
        found[name] = newest[name].key

    add(of.node.name)
    return found


def places(run: IXTRun, newest: Mapping[str, Entry], status: RunStatus) -> list[str]:
    """Where the models are that a run has trained, a line each."""
    done = [(stage, step.name) for stage, step in status.steps if step.state is StepState.COMPLETE]
    return [
        f"model {each.name}: {storage_uri(run)}/artifacts/{each.key}"
        for each in trainings(run, newest)
        if any(each.node.told_by(*step) for step in done)
    ]


def question(
    run: IXTRun, newest: Mapping[str, Entry], status: RunStatus, of: Trained, prefix: str, target: str
) -> ExportQuestion:
    """What the export of a training is asked with; `target` is a URI or a folder."""
    spec, node = run.spec, of.node
    evaluate = newest.get(name_of("Evaluate", of.stage, arm=node.arm, seed=node.seed, round=node.round))
    until = spec.stages[: [each.name for each in spec.stages].index(of.stage.name) + 1]
    judge = spec.judge
    return ExportQuestion(
        storage=storage_uri(run),
        train=of.key,
        prefix=prefix,
        target=target if "://" in target else Path(target).expanduser().absolute().as_uri(),
        name=f"{run.metadata.name} {of.name}",
        evaluate=evaluate.key if evaluate else None,
        report=report_key(status),
        stage=of.stage.name,
        model=_told(spec.model.source or spec.model.config or ""),
        judge=_told(judge.model or (judge.endpoint.model if judge.endpoint else "")) if judge else "",
        rubric=judge.rubric.text().instructions if judge else "",
        datasets=tuple(_told(dataset.uri) for stage in until for dataset in stage.datasets),
        lineage=lineage(run, newest, of),
    )


def sample_question(
    run: IXTRun, of: Trained, prompt: str, levels: tuple[int, ...], tokens: int
) -> SampleQuestion:
    """What a trained model is asked."""
    return SampleQuestion(
        storage=storage_uri(run),
        train=of.key,
        name=of.name,
        prompt=prompt,
        levels=levels,
        max_new_tokens=tokens,
    )


def _told(uri: str) -> str:
    """A place as a card tells it: of one on this machine the last name alone."""
    return uri.rstrip("/").rpartition("/")[2] if uri.startswith("file://") else uri
