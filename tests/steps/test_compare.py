"""`ixt compare`: lanes of several runs in one report."""

import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from make.lanes import ARMS, BASIC, SEQUENCE, STUDENT, Arm, Invented, invent

from ixt_workloads.compare import _incomparable, compare
from ixt_workloads.contract.compared import ComparedRun, CompareQuestion
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.settings import StageType
from ixt_workloads.flops import training_flops
from ixt_workloads.steps.report.numbers import flops
from ixt_workloads.store import ArtifactWriter, open_store

small = partial(invent, points=4, documents=64)
LONGER = tuple(arm._replace(tokens=400_000) for arm in BASIC)


def run(name: str, made: Invented, without: str = "") -> ComparedRun:
    """An invented run as `ixt compare` is asked for it; `without`: nodes that are not made yet."""
    keys = {node: key for node, key in made.inputs.items() if not without or without not in node}
    return ComparedRun(name=name, storage=made.storage.as_uri(), lanes=made.config.lanes, keys=keys)


def shown(*runs: ComparedRun, form: Any = "markdown") -> str:
    return compare(CompareQuestion(runs=runs, form=form))


def arms(text: str) -> list[str]:
    """The arms of a Markdown's tables."""
    return re.findall(r"^\| (?!Arm|-)(\S+) \|", text, re.MULTILINE)


@pytest.fixture
def short(tmp_path: Path) -> Invented:
    return small(tmp_path)


@pytest.fixture
def long(tmp_path: Path) -> Invented:
    """A run in the same storage that trains on twice as many tokens."""
    return small(tmp_path, LONGER)


def test_lanes_of_two_runs_stand_in_one_table(short: Invented, long: Invented) -> None:
    text = shown(run("short", short), run("long", long))
    assert text.startswith("# Comparison of short, long: report\n")
    assert arms(text) == ["short/next-token", "short/conditioned", "long/next-token", "long/conditioned"]
    assert "| short/next-token | 1 | 200\u202f000 |" in text
    assert "| long/conditioned | 1 | 400\u202f000 |" in text
    assert "| baseline |" in text
    changed = "differs from short/conditioned in maxTokens (400000 instead of 200000)."
    assert f"\nlong/conditioned {changed}" in text
    assert "Not all of this can be compared" not in text


def test_the_page_is_that_of_a_report(short: Invented, long: Invented) -> None:
    page = shown(run("short", short), run("long", long), form="html")
    assert "<h1>Comparison of short, long</h1>" in page
    assert "long/conditioned differs from short/conditioned in maxTokens (400000 instead of 200000)." in page
    assert page.count("<svg") >= 3
    assert "<script" not in page


def test_what_runs_share_is_shown_once(short: Invented, tmp_path: Path) -> None:
    """As keys say: one arm more does not make the others anew."""
    more = small(tmp_path, ARMS[:3])
    text = shown(run("one", short), run("more", more))
    assert arms(text) == ["one/next-token", "one/conditioned", "more/filtered"]
    for arm in ("next-token", "conditioned"):
        same = f"more/{arm} (seed 0) is one/{arm} (seed 0): the runs share its artifacts, it is shown once."
        assert same in text


def test_runs_of_one_arm_are_called_by_their_names(tmp_path: Path) -> None:
    plain = [(Arm("plain", BASIC[0].method, 0.6, tokens=tokens),) for tokens in (100_000, 200_000)]
    runs = [run(f"run{number}", small(tmp_path, each)) for number, each in enumerate(plain)]
    text = shown(*runs)
    assert arms(text) == ["run0", "run1"]
    assert "\nrun1 differs from run0 in maxTokens (200000 instead of 100000)." in text


def test_each_lane_pays_for_its_earlier_stages(tmp_path: Path) -> None:
    stages = {"pretrain": StageType.PRETRAIN, "sft": StageType.SFT}
    both = [run(name, small(tmp_path, each, stages=stages)) for name, each in (("a", BASIC), ("b", LONGER))]
    first, second = shown(*both).split("## sft")
    once = training_flops(STUDENT, 400_000, SEQUENCE)
    assert f"| b/next-token | 1 | 400\u202f000 | {flops(once)} |" in first
    assert f"| b/next-token | 1 | 400\u202f000 | {flops(2 * once)} |" in second


def test_other_data_and_other_questions_are_said(short: Invented, tmp_path: Path) -> None:
    other = small(tmp_path, BASIC, stages={"pretrain": StageType.PRETRAIN}, tasks=("products",))
    text = shown(run("sums", short), run("products", other))
    headline = text.split("\n")[2]
    assert headline.startswith("**Not all of this can be compared, see below.")
    why = "Evaluated otherwise (evaluate.tasks\\[0\\].name): products/next-token against sums/next-token."
    assert f"\n{why}" in text


def stand_in(inventory: dict[str, Any], tokenizer: str = "a", tasks: str = "a", arm: str = "one") -> Any:
    """What is asked of a lane to see whether its figures compare with those of another."""

    def artifact(config: dict[str, Any], **inputs: str) -> Any:
        image = {"config": config, "inputs": inputs}
        return SimpleNamespace(key=json.dumps(image), manifest=SimpleNamespace(preimage=image))

    datasets = inventory.pop("pin", "a")
    return SimpleNamespace(
        spec=SimpleNamespace(arm=arm),
        inventory=artifact(inventory, datasets=datasets),
        prepare=artifact({}, tokenizer=tokenizer),
        evaluate=artifact({}, tasks=tasks),
    )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (stand_in({"pin": "b"}), "Trained on other data, and held-out losses are of other documents"),
        (stand_in({"holdoutDocuments": 8}), "Held-out losses are of other documents"),
        (stand_in({"rollout": True}), "Documents are read otherwise (rollout)"),
        (stand_in({}, tokenizer="b"), "Another tokenizer, so nats a token do not compare"),
        (stand_in({}, tasks="b"), "Other questions are asked, so accuracies do not compare"),
    ],
)
def test_what_keeps_figures_from_being_compared(other: Any, why: str) -> None:
    (told,) = _incomparable([stand_in({}), other])
    assert told.startswith(why)
    assert told.endswith(": one against one.")
    assert [*_incomparable([stand_in({}), stand_in({})])] == []


def test_a_run_on_a_cluster_is_known_by_its_report(short: Invented, long: Invented) -> None:
    lanes = [lane.model_dump(mode="json", exclude_defaults=True) for lane in long.config.lanes]
    image = {"config": {"lanes": lanes}, "inputs": dict(long.inputs)}
    store = open_store(long.storage.as_uri())
    writer = ArtifactWriter(store, "9" * 32, "Report", image, run="test", attempt=0)
    writer.add("report.html", b"")
    writer.commit({}, ["report.html"])
    known = ComparedRun(name="long", storage=long.storage.as_uri(), report="9" * 32)
    assert shown(run("short", short), known) == shown(run("short", short), run("long", long))


def test_what_is_not_complete_is_left_out_and_named(short: Invented, long: Invented) -> None:
    half = run("half", long, without="evaluate/conditioned")
    text = shown(run("short", short), half)
    assert arms(text) == ["short/next-token", "short/conditioned", "half/next-token"]
    assert "Not complete, and left out: half: conditioned-s0 in pretrain." in text
    with pytest.raises(StepError, match="no lane of half is complete in any stage"):
        shown(run("half", long, without="evaluate"))
