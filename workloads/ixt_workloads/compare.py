"""`ixt compare`: the lanes of several runs in one report, with what the runs differ in, and with what keeps
their figures from being compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ixt_workloads.contract.compared import ComparedRun, CompareQuestion
from ixt_workloads.contract.configs import ReportLane
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.keys import differences
from ixt_workloads.steps.report.build import build
from ixt_workloads.steps.report.figures import pictures
from ixt_workloads.steps.report.markdown import markdown
from ixt_workloads.steps.report.page import render
from ixt_workloads.steps.report.read import Lane, read_lanes
from ixt_workloads.store import Artifact, Store, committed, open_storage

MOST_DIFFERENCES = 6
"""Fields that are told of a lane."""

TRAINED_WITH = {"model": "model to start from", "tokenizer": "tokenizer"}
"""Pins of Prepare and Train in which lanes may differ, in words."""


class _Read(NamedTuple):
    """A run's lanes under names that no other run has."""

    name: str
    lanes: list[ReportLane]
    artifacts: dict[str, Artifact]
    incomplete: list[str]
    """Lanes and stages of which something is not committed yet."""


def compare(question: CompareQuestion) -> str:
    """The page, or the Markdown. Raises StepError when no run has a lane to show."""
    given = [_given(run) for run in question.runs]
    several = any(len({lane.arm for lane in run.lanes}) > 1 for run in given)
    runs = [_read(run, several) for run in given]
    specs = [lane for run in runs for lane in run.lanes]
    if not specs:
        names = ", ".join(run.name for run in question.runs)
        raise StepError(Exit.NO_INPUT, f"no lane of {names} is complete in any stage", "let them go on first")
    nodes = {name: artifact for run in runs for name, artifact in run.artifacts.items()}
    order = [*dict.fromkeys(lane.stage for lane in specs)]
    # Sorted before it is counted what each lane spent in earlier stages.
    lanes = read_lanes(sorted(specs, key=lambda lane: order.index(lane.stage)), nodes.__getitem__)
    own, notes = _without_copies(lanes)
    report = build(_title(runs), own, _used(own, nodes))
    doubts = {name: [*_incomparable([lane for lane in own if lane.spec.stage == name])] for name in order}
    for stage in report["stages"]:
        of_stage = [lane for lane in own if lane.spec.stage == stage["name"]]
        told = [*doubts[stage["name"]], *_changes(of_stage), *notes.get(stage["name"], ())]
        stage["verdict"]["notes"] = [*told, *stage["verdict"]["notes"]]
    if doubts[report["verdictOf"]]:
        report["headline"] = f"Not all of this can be compared, see below. {report['headline']}"
    incomplete = [f"{run.name}: {lane}" for run in runs for lane in run.incomplete]
    if incomplete:
        main = next(stage for stage in report["stages"] if stage["name"] == report["verdictOf"])
        main["verdict"]["notes"].append(f"Not complete, and left out: {', '.join(incomplete)}.")
    if question.form == "markdown":
        return markdown(report)
    return render(report, {stage["name"]: pictures(stage) for stage in report["stages"]})


def _title(runs: Sequence[_Read]) -> str:
    return f"Comparison of {', '.join(run.name for run in runs)}"


# --- Reading.


def _given(run: ComparedRun) -> ComparedRun:
    """A run with its lanes and keys, as its report was made of them if it has one."""
    if run.report is None:
        return run
    image = Artifact.open(open_storage(run.storage), run.report).manifest.preimage
    return ComparedRun(
        name=run.name,
        storage=run.storage,
        lanes=tuple(ReportLane.model_validate(lane) for lane in image["config"]["lanes"]),
        keys=image["inputs"],
    )


def _read(run: ComparedRun, several: bool) -> _Read:
    """A run's complete lanes. `several`: runs have more than one arm, so lanes need the arms' names."""
    store = open_storage(run.storage)
    artifacts: dict[str, Artifact] = {}
    found, incomplete = [], []
    for lane in run.lanes:
        if all(_known(store, run, name, artifacts) for name in lane.nodes):
            found.append(_renamed(lane, run.name, several))
        else:
            incomplete.append(f"{lane.arm}-s{lane.seed} in {lane.stage}")
    return _Read(run.name, found, artifacts, incomplete)


def _known(store: Store, run: ComparedRun, node: str, artifacts: dict[str, Artifact]) -> bool:
    """Whether a node's artifact is committed; it is opened once."""
    name, key = f"{run.name}:{node}", run.keys.get(node)
    if name not in artifacts and key and committed(store, key):
        artifacts[name] = Artifact.open(store, key)
    return name in artifacts


def _renamed(lane: ReportLane, run: str, several: bool) -> ReportLane:
    """A lane with names of its own among all runs."""
    arm = f"{run}/{lane.arm}" if several else run
    return lane.renamed(lambda name: f"{run}:{name}").model_copy(update={"arm": arm})


def _used(lanes: Sequence[Lane], nodes: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The artifacts that lanes are made of, each once: runs share them."""
    names = dict.fromkeys(name for lane in lanes for name in lane.spec.nodes)
    by_key = {nodes[name].key: name for name in reversed(names)}
    return {name: nodes[name] for name in names if by_key[nodes[name].key] == name}


# --- What is the same, and what is not.


def _without_copies(lanes: Sequence[Lane]) -> tuple[list[Lane], dict[str, list[str]]]:
    """The lanes without those whose model is that of an earlier one, and by stage what is said of these."""
    first: dict[tuple[str, str], Lane] = {}
    own, notes = [], dict[str, list[str]]()
    for lane in lanes:
        known = first.setdefault((lane.spec.stage, lane.evaluate.key), lane)
        if known is lane:
            own.append(lane)
        else:
            same = f"{_called(lane)} is {_called(known)}: the runs share its artifacts, it is shown once."
            notes.setdefault(lane.spec.stage, []).append(same)
    return own, notes


def _called(lane: Lane) -> str:
    return f"{lane.spec.arm} (seed {lane.spec.seed})"


def _incomparable(lanes: Sequence[Lane]) -> Iterator[str]:
    """Why figures of a stage's lanes do not say the same: against the first lane, each reason once."""
    told: dict[str, None] = {}
    for lane in lanes[1:]:
        for why in _reasons(lanes[0], lane):
            told.setdefault(f"{why}: {lane.spec.arm} against {lanes[0].spec.arm}.")
    yield from told


def _reasons(one: Lane, other: Lane) -> Iterator[str]:
    if one.inventory.key != other.inventory.key:
        pins = [lane.inventory.manifest.preimage["inputs"].get("datasets") for lane in (one, other)]
        held = [lane.inventory.manifest.preimage["config"].get("holdoutDocuments") for lane in (one, other)]
        if pins[0] != pins[1]:
            yield "Trained on other data, and held-out losses are of other documents"
        elif held[0] != held[1]:
            yield "Held-out losses are of other documents (evaluate.holdoutDocuments)"
        else:
            fields = ", ".join(_fields(one.inventory, other.inventory)) or "its version"
            yield f"Documents are read otherwise ({fields}), so held-out losses may be of other ones"
    if _input(one.prepare, "tokenizer") != _input(other.prepare, "tokenizer"):
        yield "Another tokenizer, so nats a token do not compare"
    if _input(one.evaluate, "tasks") != _input(other.evaluate, "tasks"):
        yield "Other questions are asked, so accuracies do not compare"
    evaluated = [name for name in _fields(one.evaluate, other.evaluate) if name != "seed"]
    if evaluated:
        yield f"Evaluated otherwise ({', '.join(evaluated[:MOST_DIFFERENCES])})"


def _input(artifact: Artifact, role: str) -> Any:
    return artifact.manifest.preimage["inputs"].get(role)


def _fields(one: Artifact, other: Artifact) -> list[str]:
    """Fields of the config in which two artifacts of a kind differ."""
    configs = (each.manifest.preimage["config"] for each in (one, other))
    return [path for path, _, _ in differences(*configs)]


def _changes(lanes: Sequence[Lane]) -> Iterator[str]:
    """In what each arm differs from the same arm of the first run that has it, or from the first of all."""
    seen: set[str] = set()
    first: dict[str, Lane] = {}
    for lane in lanes:
        base = first.setdefault(lane.spec.arm.partition("/")[2], lane)
        if lane.spec.arm in (base.spec.arm, *seen):
            continue
        seen.add(lane.spec.arm)
        told = [*_changed(base, lane)]
        more = f", and {len(told) - MOST_DIFFERENCES} more" if len(told) > MOST_DIFFERENCES else ""
        if told:
            fields = ", ".join(told[:MOST_DIFFERENCES])
            yield f"{lane.spec.arm} differs from {base.spec.arm} in {fields}{more}."


def _changed(base: Lane, lane: Lane) -> Iterator[str]:
    """What a lane is made with otherwise than another: fields with their values, and what is only read."""
    for kind in ("prepare", "train"):
        one, other = (getattr(each, kind) for each in (base, lane))
        for role, words in TRAINED_WITH.items():
            if _input(one, role) != _input(other, role):
                yield f"the {words}"
        configs = (each.manifest.preimage["config"] for each in (one, other))
        for path, old, new in differences(*configs):
            if path != "seed" and not path.startswith(("evaluate", "tasks")):
                yield f"{path.removeprefix('train.')} ({_short(new)} instead of {_short(old)})"
    if {each.key for each in base.annotate} != {each.key for each in lane.annotate} and lane.annotate:
        yield "the feedback that it reads"


def _short(value: Any) -> str:
    text = "the default" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
