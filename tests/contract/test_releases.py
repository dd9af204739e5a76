"""Operators and images of one release either way go together (docs/versions.md).

golden/releases/<version>/ holds what that release writes, in documents of every sort, and their schemas.
Today's code must read them as they were meant, and that release what today's writes. The folder of this
version follows the code until the version is released:
    IXT_GOLDEN=write pytest tests/contract/test_releases.py
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from jsonschema.exceptions import best_match
from make import documents, runs
from make.children import SUCCEED, tasks
from make.corpora import dataset, inventory_task, jsonl, rows, texts
from make.objects import container, pod, terminated
from make.observed import Platform
from make.tasks import run_here, run_step
from pydantic import BaseModel

from ixt_operator.adapters.kubernetes.pod import Heard, process_of
from ixt_operator.api.run import IXTRun
from ixt_operator.planner.child import Child
from ixt_operator.planner.retry import meaning
from ixt_workloads import __version__
from ixt_workloads.contract.base import InKey, NotInKey
from ixt_workloads.contract.configs import AnnotateConfig, TrainConfig
from ixt_workloads.contract.exits import Exit, Fault, StepError, meaning_of
from ixt_workloads.contract.graph import Node, Probe, Task
from ixt_workloads.contract.keys import canonical, key_of, preimage
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import Outcome, Progress, Result
from ixt_workloads.contract.settings import Train
from ixt_workloads.contract.versions import read_known, read_task, write_task
from ixt_workloads.store import ArtifactWriter, open_store

FOLDER = Path(__file__).parents[1] / "golden" / "releases"
RELEASES = sorted(folder.name for folder in FOLDER.iterdir())
GROUPS = ("tasks", *documents.MODELS)
RULES = "docs/versions.md says what may change in a release, and how"

today = cache(documents.documents)
schemas = cache(documents.schemas)


def golden(release: str, group: str) -> Any:
    return json.loads((FOLDER / release / f"{group}.json").read_text())


@pytest.mark.parametrize("group", GROUPS)
def test_what_this_version_writes_is_kept(group: str) -> None:
    found = {"documents": today()[group], "schema": schemas()[group]}
    text, file = json.dumps(found, indent=1) + "\n", FOLDER / __version__ / f"{group}.json"
    if os.environ.get("IXT_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.exists() and text == file.read_text(), (
        f"{group} differ from those in {file}. If {__version__} is released, begin the next version: "
        "ixt_workloads/__init__.py, pyproject.toml, Chart.yaml. Then have them written, IXT_GOLDEN=write "
        f"pytest tests/contract/test_releases.py, and read the diff; {RULES}"
    )


def fields(value: Any, path: str = "") -> Iterator[str]:
    """All fields below a value, for example .train.optimizer"""
    for name, item in value.items() if isinstance(value, dict) else ():
        yield f"{path}.{name}"
        yield from fields(item, f"{path}.{name}")
    for item in value if isinstance(value, list) else ():
        yield from fields(item, path)


def test_every_setting_is_in_a_golden_document() -> None:
    configs = [task.config.model_dump(mode="json") for task in documents.tasks().values()]
    known = {field for config in configs for field in fields(config)}
    unset = known - {field for task in today()["tasks"].values() for field in fields(task["config"])}
    assert not unset, f"no golden task sets {unset}: set it in RICH of make/documents.py, and write them anew"


# --- Releases and today's code ---


def as_read_today(release: str, group: str) -> Iterator[tuple[str, Any, BaseModel]]:
    """What a release wrote, by name: as it was written and as it is read."""
    for name, document in golden(release, group)["documents"].items():
        try:
            yield name, document, documents.read(group, document)
        except (StepError, ValueError) as error:
            wanted = f"what {release} sets stays known, and what is new has a default"
            # A kind's new version is the one exception: such steps need the operator's version.
            assert "sets the version of" in str(error), f"{group}, {name}: {error}; {wanted}; {RULES}"


def changed(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """What is still there and has another value."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() & new.keys():
            yield from changed(old[name], new[name], f"{path}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from changed(left, right, f"{path}[{place}]")
    elif old != new:
        yield f"{path} was {old!r} and is read as {new!r}"


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("group", GROUPS)
def test_what_a_release_wrote_is_read_as_it_was_meant(release: str, group: str) -> None:
    for name, document, found in as_read_today(release, group):
        wrong = list(changed(document, found.model_dump(mode="json")))
        assert not wrong, f"{group} of {release}, {name}: {wrong}. A new meaning needs a new field; {RULES}"


def defaults(schema: Any, root: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its default; of kinds, one after the other."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    for name, field in schema.get("properties", {}).items():
        if "default" in field:
            yield f"{path}.{name}", field["default"]
        yield from defaults(field, root, f"{path}.{name}")
    for part in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from defaults(part, root, path)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("group", GROUPS)
def test_a_default_is_what_it_was(release: str, group: str) -> None:
    old, new = golden(release, group)["schema"], schemas()[group]
    now: dict[str, list[Any]] = {}
    for field, default in defaults(new, new):
        now.setdefault(field, []).append(default)
    for field, was in defaults(old, old):
        same = field not in now or any(not [*changed(was, default)] for default in now[field])
        assert same, (
            f"{group} are written without defaults: that of {field} stays {was!r}, as in {release}; {RULES}"
        )


def loosened(schema: Any) -> Any:
    """As those read it who leave out what they do not know: no field or word too many is in the way."""
    if isinstance(schema, list):
        return [loosened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: loosened(value)
        for name, value in schema.items()
        if name not in ("enum", "const") and (name, value) != ("additionalProperties", False)
    }


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("group", GROUPS)
def test_a_release_reads_what_sets_nothing_new(release: str, group: str) -> None:
    old, is_task = golden(release, group), group == "tasks"
    new = {name: one for name, one in today()[group].items() if name.startswith("small:") or not is_task}
    again = {
        f"{name} of {release}": documents.written(found) for name, _, found in as_read_today(release, group)
    }
    for name, document in {**new, **again}.items():
        schema = old["schema"] if is_task else loosened(old["schema"])
        if is_task:
            schema = {"$ref": f"#/$defs/{document['kind']}Task", "$defs": schema["$defs"]}
        wrong = best_match(jsonschema.Draft202012Validator(schema).iter_errors(document))
        assert wrong is None, (
            f"{release} cannot read today's {group}, {name}: {wrong.json_path}: {wrong.message}. What is new "
            f"needs a default, and what {release} needs must stay; {RULES}"
        )


# --- Another version than this one ---

NEWER = "99.0.0"
SAID = f"this task was written by ixt {NEWER} and sets %s, which this image, ixt {__version__}, does not know"


def of_newer(task: Task, *place: str | int, value: Any) -> str:
    """The task as an operator of a newer version writes it, with a value at a place."""
    document = json.loads(write_task(task)) | {"writtenBy": NEWER}
    inner = document
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    return json.dumps(document)


@pytest.fixture(scope="module")
def inventory() -> Task:
    return documents.tasks()["small: pretrain/inventory"]


def test_what_the_image_does_not_know_is_said_and_is_no_fault_of_the_user(
    tmp_path: Path, inventory: Task
) -> None:
    assert inventory.probe
    trains = [node.kind for node in inventory.probe.nodes].index("Train")
    place = "probe", "nodes", trains, "config", "train", "optimizer"
    ran = run_step(inventory, tmp_path, text=of_newer(inventory, *place, value={"muon": True}))
    assert ran.code == Exit.VERSION_SKEW
    assert ran.result.message == SAID % "train.optimizer.muon"
    assert ran.result.hint == "use an image of the operator's version"
    assert ran.result.fault is meaning_of(ran.code).fault is Fault.APPLICATION


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("pool",), "a", "pool"),
        (("config", "later"), 1, "later"),
        (("config", "datasets", 0, "format"), "Avro", "datasets.0.format to 'Avro'"),
        (("config", "datasets", 0, "uri"), "az://b/c", "datasets.0.uri to 'az://b/c'"),
        (("probe", "nodes", 1, "kind"), "Sample", "kind to 'Sample'"),
        (
            ("probe", "nodes", 0, "version"),
            77,
            f"the version of Inventory to 77, not {KINDS['Inventory'].version}",
        ),
    ],
)
def test_whatever_is_new_is_named(
    inventory: Task, place: tuple[str | int, ...], value: Any, said: str
) -> None:
    with pytest.raises(StepError) as refused:
        read_task(of_newer(inventory, *place, value=value).encode())
    assert (refused.value.code, refused.value.message) == (Exit.VERSION_SKEW, SAID % said)


def test_a_step_makes_no_artifact_of_another_version() -> None:
    task = documents.tasks()["small: pretrain/train/conditioned-s0"]
    with pytest.raises(StepError, match="sets the version of Train to 77, not"):
        read_task(of_newer(task, "preimage", "version", value=77).encode())


class NewerTrain(Train):
    later: Annotated[int, NotInKey] = 3


class NewerConfig(TrainConfig):
    train: Annotated[NewerTrain, InKey]
    parts: Annotated[tuple[str, ...], InKey] = ()


def test_a_new_field_is_in_nobodys_way_until_it_is_set() -> None:
    task = documents.tasks()["rich: pretrain/train/annealed-s7"]
    config = NewerConfig.model_validate(task.config.model_dump())
    newer = task.model_copy(update={"config": config})
    assert read_task(write_task(newer).encode()).config.model_dump() == task.config.model_dump()
    assert canonical(config) == canonical(task.config)
    train = config.train.model_copy(update={"later": 4})
    newer = task.model_copy(update={"config": config.model_copy(update={"train": train})})
    with pytest.raises(StepError, match=r"sets train\.later, which"):
        read_task(write_task(newer).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 9999, b"\x1f\x8bno", b"\xff"])
def test_what_is_no_json_is_no_other_version(content: bytes) -> None:
    with pytest.raises(StepError, match="the task cannot be read") as refused:
        read_task(content)
    assert refused.value.code == Exit.USAGE


@pytest.mark.parametrize(
    ("code", "phase", "found"),
    [(0, "Succeeded", None), (65, "Failed", Fault.USER), (99, "Failed", Fault.APPLICATION)],
)
def test_of_a_newer_images_result_as_much_is_read_as_is_known(
    code: int, phase: str, found: Fault | None
) -> None:
    told = {"outcome": "Skipped", "fault": "Cosmic", "later": {}, "key": "k"}
    told["figures"] = {"ixt_training_loss": {"": 1, "b": "x"}, "ixt_later": "x"}
    ended = terminated(code, json.dumps(told), "Error" if code else "Completed")
    state = process_of(
        0, pod(tasks("one", SUCCEED), phase=phase, **container(terminated=ended)), Heard({}, {})
    )
    assert state.phase == phase
    assert state.result == Result(outcome=Outcome.OTHER, key="k", figures={"ixt_training_loss": {"": 1}})
    assert found is None or meaning(state).fault is found


# --- Kinds of other versions ---


def test_an_inventory_answers_about_the_operators_keys(tmp_path: Path) -> None:
    """The operator asks for another version of Annotate than the image makes."""
    storage, data = tmp_path / "storage", dataset(jsonl(tmp_path / "c.jsonl", rows(texts(30))))
    task, config = inventory_task(storage, data), AnnotateConfig(to_percent=15)
    assert task.probe
    inputs = {"inventory": task.node}
    annotate = Node(kind="Annotate", stage="stage", version=7, config=config, inputs=inputs)
    asked = task.model_copy(update={"probe": Probe(nodes=(*task.probe.nodes, annotate))})
    first = run_here(asked)
    image = preimage(config, 7, {"inventory": first.key})
    store = open_store(f"file://{storage}")
    ArtifactWriter(store, key_of(image), "Annotate", image, run="test", attempt=0).commit({}, [])
    assert (first.committed, run_here(asked).committed) == ((0,), (0, 1))


def test_an_operator_whose_kinds_have_other_versions_asks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_child(run: IXTRun) -> Child:
        (child,) = Platform(run).look().create
        return child

    before = first_child(runs.run(name="before"))
    monkeypatch.setitem(KINDS, "Train", KINDS["Train"]._replace(version=7))
    after = first_child(runs.run(name="after"))
    assert after.key != before.key
    assert after.task and after.task.probe
    assert {node.version for node in after.task.probe.nodes if node.kind == "Train"} == {7}


@pytest.mark.parametrize("told", ["-5", "NaN", "Infinity", "1e300"])
@pytest.mark.parametrize("field", ["done", "total", "perSecond"])
def test_figures_that_no_status_holds_are_left_out(field: str, told: str) -> None:
    found = read_known(Progress, f'{{"{field}": {told}, "unit": "tokens"}}')
    assert found == Progress(unit="tokens")
