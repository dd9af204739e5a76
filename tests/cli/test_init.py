"""The first manifest: `ixt init` from a look at data and model, and what `ixt validate` says of others."""

import json
import os
import pty
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from make.cli import IXT, Desk
from make.corpora import rows, texts

from ixt_operator.adapters.local.machine import gpus_here
from ixt_operator.api.run import IXTRun
from ixt_operator.manifests.loading import loads
from ixt_workloads.contract.settings import FeedbackFormat, Precision, StageType

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"


@pytest.fixture
def folder(tmp_path: Path) -> Desk:
    """A folder with a student, a judge that thinks, and data of three kinds."""
    for name in ("student", "judge"):
        shutil.copytree(QUICKSTART / name, tmp_path / name)
    documents = rows(texts(300))
    write(tmp_path / "web.jsonl", documents)
    scored = [{"id": n, "body": row["text"], "edu_score": n % 5} for n, row in enumerate(documents)]
    write(tmp_path / "scored.jsonl", scored)
    chats = [{"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]}] * 50
    write(tmp_path / "chats.jsonl", chats)
    return Desk(tmp_path)


def write(path: Path, documents: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in documents))


def made(desk: Desk, file: str = "run.yaml") -> IXTRun:
    (found,) = loads((desk.folder / file).read_text(), file, desk.folder)
    assert isinstance(found, IXTRun)
    return found


def test_web_text_with_a_judge(folder: Desk) -> None:
    done = folder.ixt("init", "--data", "web.jsonl", "--model", "student", "--judge", "./judge")
    assert done.code == 0, done.err
    assert done.out.startswith("wrote run.yaml; next: ixt validate run.yaml, then ixt run run.yaml\n")
    assert "stage pretrain:" in done.out, "its plan"
    run = made(folder)
    assert run.spec.judge
    assert run.spec.judge.reasoning_parser == "deepseek_r1"
    assert run.spec.judge.sampling.max_tokens == 256, "a quarter of what this judge can read and say"
    stage = run.spec.stages[0]
    assert stage.type is StageType.PRETRAIN
    config = json.loads((QUICKSTART / "student" / "config.json").read_bytes())
    assert stage.prepare.sequence_length == config["max_position_embeddings"]
    assert stage.train.max_tokens % stage.train.batch_tokens == 0
    assert (stage.train.precision is Precision.FP32) == (gpus_here() == 0)
    assert "uri: ./web.jsonl" in folder.manifest.read_text()
    checked = folder.ixt("validate", "run.yaml")
    assert (checked.code, checked.err) == (0, "")
    again = folder.ixt("init", "--data", "web.jsonl", "--model", "student", "--judge", "judge")
    assert (again.code, again.err) == (2, "run.yaml is there already: name another file\n")


def test_data_with_scores_and_chat(folder: Desk) -> None:
    model = ["--model", "student"]
    assert folder.ixt("init", "--data", "scored.jsonl", *model, "--scores", "edu_score").code == 0
    run = made(folder)
    assert run.spec.conditioning.format is FeedbackFormat.TOKEN
    assert run.spec.stages[0].datasets[0].text_field == "body"
    wrong = folder.ixt("init", "b.yaml", "--data", "scored.jsonl", *model, "--scores", "edu_skore")
    assert wrong.code == 2
    assert "has no field edu_skore with numbers; fields with numbers: edu_score, id" in wrong.err
    assert "did you mean edu_score?" in wrong.err
    assert folder.ixt("init", "c.yaml", "--data", "chats.jsonl", *model, "--judge", "judge").code == 0
    stage = made(folder, "c.yaml").spec.stages[0]
    assert (stage.type, stage.datasets[0].messages_field) == (StageType.SFT, "messages")


def test_what_is_not_here(folder: Desk) -> None:
    """A name of the hub is one; data that ought to be here must be."""
    hub = ["--model", "Qwen/Qwen3-0.6B", "--judge", "hf://Qwen/Qwen3-8B"]
    done = folder.ixt("init", "--data", "hf://owner/data", *hub, HF_HUB_OFFLINE="1")
    assert done.code == 0, done.err
    assert made(folder).spec.model.source == "hf://Qwen/Qwen3-0.6B"
    missing = folder.ixt("init", "b.yaml", "--data", "wbe.jsonl", *hub)
    assert missing.code == 1
    assert "wbe.jsonl" in missing.err
    write(folder.folder / "numbers.jsonl", [{"n": 1}])
    numbers = folder.ixt(
        "init", "b.yaml", "--data", "numbers.jsonl", "--model", "student", "--judge", "judge"
    )
    assert "no field of" in numbers.err
    assert folder.ixt("init", "b.yaml", "--data", "web.jsonl").err == (
        "nobody can be asked here: say --model, --judge or --scores\n"
    )
    assert not (folder.folder / "b.yaml").exists()


def test_three_questions_on_a_terminal(folder: Desk) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"scored.jsonl\nstudent\n=edu_score\n")
    command = [IXT, "init", "asked.yaml"]
    asked = subprocess.run(
        command, cwd=folder.folder, env=folder.environment(), stdin=theirs, capture_output=True, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 0, asked.stderr
    existing = made(folder, "asked.yaml").spec.stages[0].annotate.existing
    assert existing
    assert existing.score_field == "edu_score"


def test_all_layers_of_problems_at_once(folder: Desk) -> None:
    """Types, names, relations and what is not there; what was meant is said."""
    (folder.folder / "run.yaml").write_text(
        """\
apiVersion: ixt.dev/v1alpha1
kind: IXTRun
metadata: {name: test}
spec:
  storage: {uri: ./storage}
  model: {source: Qwen/Qwen3-0.6B}
  conditionning: {format: Token}
  stages:
    - name: pretrain
      type: Pretrain
      datasets: [{name: web, uri: ./wbe.jsonl}]
      prepare: {sequenceLength: 100}
      train: {maxTokens: 200M, batchTokens: 1050}
"""
    )
    done = folder.ixt("validate", "run.yaml")
    assert done.code == 2
    for said in (
        "run.yaml:4: spec.judge: a judge is needed",
        "not 'Qwen/Qwen3-0.6B': did you mean hf://Qwen/Qwen3-0.6B?",
        "run.yaml:7: spec.conditionning: unknown field: did you mean conditioning?",
        f"run.yaml:11: spec.stages[0].datasets[0].uri: there is no {folder.folder}/wbe.jsonl on this machine",
        "spec.stages[0].train: train.batchTokens must be a multiple of prepare.sequenceLength",
        "run.yaml:13: spec.stages[0].train.maxTokens: must be a whole number, not '200M': write 200000000",
        "6 problems",
    ):
        assert said in done.err


@pytest.mark.parametrize(
    ("given", "meant"), [("1.5B", "1500000000"), ("2e8", "200000000"), ("20k", "20000"), ("many", "")]
)
def test_numbers_as_people_write_them(folder: Desk, given: str, meant: str) -> None:
    text = "apiVersion: ixt.dev/v1alpha1\nkind: IXTRun\nspec: {maxParallelLanes: '%s'}\n"
    (folder.folder / "run.yaml").write_text(text % given)
    line = folder.ixt("validate", "run.yaml").err
    assert f"not '{given}'" + (f": write {meant}\n" if meant else "\n") in line


def test_the_version(folder: Desk) -> None:
    assert folder.ixt("--version").out == "ixt 0.1.0\n"
