"""Pins and answers of Inventory: keys follow content, and what is committed already is not made again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from make.corpora import artifact, dataset, hub_snapshot, inventory_task, jsonl, read, rows, texts
from make.models import config_folder, model_folder, tokenizer_folder
from make.tasks import run_here, run_step, task

from ixt_workloads.contract.configs import AnnotateConfig, InventoryConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Node, Probe, resolve
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import Outcome
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS
from ixt_workloads.contract.settings import (
    Dataset,
    EvalTask,
    ExistingFeedback,
    Judge,
    ModelSource,
)
from ixt_workloads.store import ArtifactWriter, open_store

TEXTS = texts(30)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return dataset(jsonl(tmp_path / "data/corpus.jsonl", rows(TEXTS)).parent)


def questions(path: Path, *lines: object) -> EvalTask:
    jsonl(path, [line if isinstance(line, str | bytes) else json.dumps(line) for line in lines])
    return EvalTask(name="sums", uri=f"file://{path}", max_items=3)


# --- Answers ---


def test_a_second_run_finds_all_committed_and_writes_nothing(tmp_path: Path, data: Dataset) -> None:
    storage = tmp_path / "storage"
    first = run_step(inventory_task(storage, data), tmp_path / "run")
    assert first.result.outcome is Outcome.COMMITTED, first.log
    before = {path: path.stat().st_mtime_ns for path in (storage / "artifacts").rglob("*")}
    again = run_step(inventory_task(storage, data, attempt=1), tmp_path / "run")
    spent = {"spent": again.result.spent}
    assert again.result == first.result.model_copy(update={"outcome": Outcome.CACHED, **spent})
    assert {path: path.stat().st_mtime_ns for path in (storage / "artifacts").rglob("*")} == before


def test_it_says_which_steps_of_its_stage_are_committed(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    existing = ExistingFeedback(score_field="score")
    lines = [{"text": text, "score": place} for place, text in enumerate(TEXTS)]
    data = dataset(jsonl(tmp_path / "c.jsonl", lines))
    config = InventoryConfig(datasets=(data,), existing=existing)
    own: dict[str, Any] = {"stage": "stage", "version": KINDS["Inventory"].version}
    inventory = Node(kind="Inventory", config=config, inputs={"datasets": "pin:datasets"}, **own)
    bands = {
        "0-10": AnnotateConfig(to_percent=10),
        "10-50": AnnotateConfig(from_percent=10, to_percent=50),
        "holdout": AnnotateConfig(holdout=True),
    }
    own |= {"inputs": {"inventory": inventory.name}, "version": KINDS["Annotate"].version}
    nodes = (inventory, *(Node(kind="Annotate", part=part, config=of, **own) for part, of in bands.items()))
    job = inventory_task(storage, data, existing=existing, probe=Probe(nodes=nodes, known={"r/x": "e" * 32}))
    first = run_step(job, tmp_path / "run")
    assert first.code == 0, first.log
    keyed = resolve(nodes, first.result.pins, {})
    assert (first.result.committed, first.result.key) == ((0,), keyed["stage/inventory"].key)
    marks = json.loads(open_store(f"file://{storage}").get("runs/uid-1/stage.json"))
    assert marks["keys"] == sorted(["e" * 32, *(node.key for node in keyed.values())])

    for name in ("stage/annotate/10-50", "stage/annotate/holdout"):
        made = task(keyed[name].node.config, storage, {"inventory": first.result.key})
        assert run_here(made).key == keyed[name].key
    assert run_step(job, tmp_path / "run").result.committed == (0, 2, 3)


def test_it_says_what_others_have_paid_for_what_is_committed(tmp_path: Path, data: Dataset) -> None:
    storage = tmp_path / "storage"
    config = InventoryConfig(datasets=(data,))
    own = {"stage": "stage", "version": 2}
    judged = [
        Node(
            kind="Annotate",
            part=f"{start}-{start + 10}",
            config=AnnotateConfig(from_percent=start, to_percent=start + 10),
            inputs={"inventory": "stage/inventory"},
            **own,
        )
        for start in (0, 10, 20)
    ]
    inventory = Node(kind="Inventory", config=config, inputs={"datasets": "pin:datasets"}, **own)
    job = inventory_task(storage, data, probe=Probe(nodes=(inventory, *judged)))
    first = run_step(job, tmp_path / "run").result
    assert first.saved_flops == {}
    keyed = resolve((inventory, *judged), first.pins, {})
    store = open_store(f"file://{storage}")
    for node, run_uid, flops in zip(judged, ("uid-1", "uid-2", "uid-3"), (1, 20, 300), strict=True):
        key, image = keyed[node.name].key, keyed[node.name].preimage
        writer = ArtifactWriter(store, key, node.kind, image, run="any", attempt=0, run_uid=run_uid)
        writer.commit({"flops": flops}, [])
    again = run_step(job, tmp_path / "run").result
    assert again.committed == (0, 1, 2, 3)
    assert again.saved_flops == {"annotation": 320}, "its own artifact saved it nothing"
    common = {"common": keyed[judged[1].name].key}
    later = inventory_task(storage, data, probe=Probe(nodes=(inventory, *judged), known=common))
    assert run_step(later, tmp_path / "run").result.saved_flops == {"annotation": 300}


# --- Pins of datasets and tasks ---


def test_data_may_move_and_every_byte_of_it_counts(tmp_path: Path, data: Dataset) -> None:
    storage = tmp_path / "storage"
    first = run_here(inventory_task(storage, data))
    moved = tmp_path / "elsewhere/still"
    shutil.copytree(tmp_path / "data", moved)
    assert run_here(inventory_task(storage, dataset(moved))).key == first.key
    with (moved / "corpus.jsonl").open("a") as file:
        file.write("\n")
    changed = run_here(inventory_task(storage, dataset(moved)))
    assert changed.pins != first.pins and changed.key != first.key
    (moved / "corpus.jsonl").write_bytes((tmp_path / "data/corpus.jsonl").read_bytes())
    (moved / "notes.pdf").write_text("no part of it")
    assert run_here(inventory_task(storage, dataset(moved))).key == first.key
    jsonl(moved / "more.jsonl", rows(["one more"]))
    assert run_here(inventory_task(storage, dataset(moved))).key != first.key


def test_what_changes_the_shards_changes_the_key_and_nothing_else_does(tmp_path: Path, data: Dataset) -> None:
    storage = tmp_path / "storage"
    key = run_here(inventory_task(storage, data)).key
    task = questions(tmp_path / "t.jsonl", {"prompt": "1+1=", "answer": "2"})
    assert run_here(inventory_task(storage, data, tasks=(task,))).key == key
    weighted = data.model_copy(update={"weight": 50})
    assert (
        len({key, *(run_here(inventory_task(storage, data, holdout_documents=n)).key for n in (0, 1))}) == 3
    )
    assert run_here(inventory_task(storage, weighted)).key != key


def test_tasks_are_pinned_and_read_to_the_last_item(tmp_path: Path, data: Dataset) -> None:
    good = {"prompt": "a\u2028b", "answer": " 1"}
    asked = questions(tmp_path / "t.jsonl", good, "", json.dumps(good, ensure_ascii=False), good, "not read")

    def pin() -> str:
        return run_here(inventory_task(tmp_path / "storage", data, tasks=(asked,))).pins["tasks"]

    first = pin()
    assert pin() == first
    questions(tmp_path / "t.jsonl", good)
    assert pin() != first


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "malformed JSON: Expecting property name"),
        ('{"prompt": "1+1="}', "has no field 'answer'"),
        ('{"prompt": "1+1=", "answer": 2}', "must be texts that are not empty"),
        ('{"prompt": "", "answer": "2"}', "must be texts that are not empty"),
        ("[1]", "list indices"),
        (b'{"prompt": "\xff", "answer": "2"}', "can't decode"),
    ],
)
def test_a_bad_item_of_a_task_is_found_before_anything_is_made(
    tmp_path: Path, data: Dataset, line: str | bytes, message: str
) -> None:
    asked = questions(tmp_path / "t.jsonl", {"prompt": "1+1=", "answer": "2"}, "", line)
    with pytest.raises(StepError) as caught:
        run_here(inventory_task(tmp_path / "storage", data, tasks=(asked,)))
    assert f"task sums: {tmp_path}/t.jsonl, line 3: " in caught.value.message
    assert message in caught.value.message
    assert (caught.value.code, bool(caught.value.hint)) == (Exit.DATA, True)


# --- Pins of models ---


def pinned(storage: Path, data: Dataset, **config: object) -> dict[str, str]:
    return run_here(inventory_task(storage, data, **config)).pins


def test_a_models_weights_and_its_tokenizer_are_pinned_apart(tmp_path: Path, data: Dataset) -> None:
    folder, storage = model_folder(tmp_path / "model"), tmp_path / "storage"
    source = ModelSource(source=f"file://{folder}")
    judge = Judge(source=f"file://{folder}", rubric=BUILTIN_RUBRICS["quality"])

    def pins() -> dict[str, str]:
        return pinned(storage, data, model=source, judge=judge)

    first = pins()
    assert set(first) == {"datasets", "judge", "model", "tokenizer"}
    (folder / "README.md").write_text("About it")
    assert pins() == first
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    second = pins()
    assert {name for name in first if first[name] != second[name]} == {"judge", "model"}
    template = folder / "chat_template.jinja"
    template.write_text("{{ messages }}")
    third = pins()
    assert {name for name in first if second[name] != third[name]} == {"judge", "model", "tokenizer"}


def test_a_model_from_scratch_is_pinned_by_its_config_and_its_tokenizer(
    tmp_path: Path, data: Dataset
) -> None:
    storage = tmp_path / "storage"
    folders = config_folder(tmp_path / "config"), tokenizer_folder(tmp_path / "tokenizer")
    source = ModelSource(config=f"file://{folders[0]}", tokenizer=f"file://{folders[1]}")
    first = pinned(storage, data, model=source)
    config_folder(tmp_path / "config", vocabulary=200)
    second = pinned(storage, data, model=source)
    assert first["tokenizer"] == second["tokenizer"] and first["model"] != second["model"]


def test_a_judge_behind_an_endpoint_is_known_by_its_name(tmp_path: Path, data: Dataset) -> None:
    judge = Judge(model="big-judge-v2", rubric=BUILTIN_RUBRICS["quality"])
    assert pinned(tmp_path / "storage", data, judge=judge)["judge"] == "endpoint:big-judge-v2"


WITHOUT: dict[str, tuple[Callable[[Path], object], Exit, str]] = {
    "weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        Exit.NO_INPUT,
        "has no weights (*.safetensors)",
    ),
    "safe weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        Exit.DATA,
        "has its weights as pickle (pytorch_model.bin), which can run code when read",
    ),
    "one of its files": (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}})
        ),
        Exit.NO_INPUT,
        "lacks 1 files of its weights, such as model-00002-of-00002.safetensors",
    ),
    "a whole index": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("{"),
        Exit.DATA,
        "model.safetensors.index.json is damaged",
    ),
    "tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), Exit.NO_INPUT, "no tokenizer.json"),
    "config": (lambda folder: (folder / "config.json").unlink(), Exit.NO_INPUT, "has no config.json"),
    "a whole config": (
        lambda folder: (folder / "config.json").write_text("{"),
        Exit.DATA,
        "config.json is damaged",
    ),
    "a whole tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("[]"),
        Exit.DATA,
        "tokenizer.json is damaged",
    ),
    "anything": (shutil.rmtree, Exit.NO_INPUT, "does not exist"),
    "being one": (
        lambda folder: (shutil.rmtree(folder), folder.touch()),
        Exit.NO_INPUT,
        "is a file",
    ),
}


@pytest.mark.parametrize("lacking", WITHOUT)
def test_a_model_folder_without(lacking: str, tmp_path: Path, data: Dataset) -> None:
    folder = model_folder(tmp_path / "model")
    spoil, code, message = WITHOUT[lacking]
    spoil(folder)
    for config in (
        {"model": ModelSource(source=f"file://{folder}")},
        {"judge": Judge(source=f"file://{folder}", rubric=BUILTIN_RUBRICS["quality"])},
    ):
        with pytest.raises(StepError) as caught:
            pinned(tmp_path / "storage", data, **config)
        said, field = caught.value.message, "model.source" if "model" in config else "judge.model"
        assert message in said and said.startswith(f"{field}: ") and said.count(str(folder)) == 1
        assert (caught.value.code, bool(caught.value.hint)) == (code, True)


# --- The hub, by its cache ---


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def lines(*documents: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in documents)


def test_a_dataset_of_the_hub_is_read_from_its_snapshot(tmp_path: Path, hub: Path) -> None:
    files = {"README.md": b"# Card", "data/a.jsonl": lines("one", "two"), "test/b.jsonl": lines("three")}
    hub_snapshot(hub, "datasets/owner/name", files)
    hub_snapshot(hub, "datasets/owner/name", {"data/a.jsonl": lines("old")}, revision="v1")
    hub_snapshot(hub, "models/owner/name", {"data/a.jsonl": lines("a model is no dataset")})
    wanted = {
        "hf://owner/name": {"one", "two", "three"},
        "hf://datasets/owner/name": {"one", "two", "three"},
        "hf://owner/name/data": {"one", "two"},
        "hf://owner/name/test/b.jsonl": {"three"},
        "hf://owner/name@v1": {"old"},
    }
    for number, (uri, found) in enumerate(wanted.items()):
        storage = tmp_path / f"storage-{number}"
        done = run_here(inventory_task(storage, dataset(uri)))
        assert {row["text"] for row in read(artifact(storage, done.key))} == found
    task = inventory_task(tmp_path / "storage-0", dataset("hf://owner/name"))
    again = run_step(task, tmp_path / "run", forked=False)
    assert again.result.outcome is Outcome.CACHED, again.log


def test_of_a_dataset_one_split_is_read(tmp_path: Path, hub: Path) -> None:
    files = {
        "en/train-00000-of-00002.jsonl": lines("one"),
        "en/train-00001-of-00002.jsonl": lines("two"),
        "en/validation-00000-of-00001.jsonl": lines("three"),
        "en/constraints.jsonl": lines("four"),
        "de/train/a.jsonl": lines("five"),
        "dev.jsonl": lines("six"),
    }
    hub_snapshot(hub, "datasets/owner/name", files)
    folder = tmp_path / "local"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    wanted = {
        ("hf://owner/name/en", "train"): {"one", "two"},
        ("hf://owner/name", "train"): {"one", "two", "five"},
        ("hf://owner/name", "validation"): {"three", "six"},
        (f"file://{folder}", "train"): {"one", "two", "five"},
    }
    for number, ((uri, split), found) in enumerate(wanted.items()):
        one = dataset(uri).model_copy(update={"split": split})
        done = run_here(inventory_task(tmp_path / f"storage-{number}", one))
        assert {row["text"] for row in read(artifact(tmp_path / f"storage-{number}", done.key))} == found
    lacking = dataset(f"file://{folder}").model_copy(update={"split": "test"})
    with pytest.raises(StepError, match=r"has no file to read of the split 'test', but others, such as de/"):
        run_here(inventory_task(tmp_path / "storage", lacking))


def test_a_model_of_the_hub_is_pinned_as_the_same_folder_is(tmp_path: Path, hub: Path, data: Dataset) -> None:
    folder = model_folder(tmp_path / "model")
    hub_snapshot(hub, "models/owner/tiny", {path.name: path.read_bytes() for path in folder.iterdir()}, "v2")
    here, there = (
        pinned(tmp_path / "storage", data, model=source)
        for source in (
            ModelSource(source=f"file://{folder}"),
            ModelSource(source="hf://owner/tiny", revision="v2"),
        )
    )
    assert here == there


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://owner/gone", "dataset owner/gone of the hub cannot be had"),
        ("hf://owner/name@v9", "dataset owner/name@v9 of the hub cannot be had"),
        ("hf://owner/name/nowhere", "hf://owner/name/nowhere"),
        ("hf://@v1", "hf://@v1 names no repository"),
    ],
)
def test_what_the_hub_does_not_have_is_said(tmp_path: Path, hub: Path, uri: str, message: str) -> None:
    hub_snapshot(hub, "datasets/owner/name", {"a.jsonl": lines("one")})
    with pytest.raises(StepError) as caught:
        run_here(inventory_task(tmp_path / "storage", dataset(uri)))
    assert caught.value.code in (Exit.NO_INPUT, Exit.CONFIG)
    assert message in caught.value.message and caught.value.hint
