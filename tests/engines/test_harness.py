"""A trained model asked by vLLM itself: what the harness writes with it, and docs/models.md's own code."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from make.harness import GSM, GSM_ROWS, KNOWN, harness_task
from make.prepared import prepared
from make.training import scratch, train_here, train_task

from ixt_workloads.asking import Asker
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exported import EvalQuestion, ExportQuestion
from ixt_workloads.contract.settings import EvalPrefix, Evaluate, Harness, StageType
from ixt_workloads.export import export
from ixt_workloads.harness.again import evaluate

PROGRAM = Path(__file__).with_name("with_vllm.py")
DOCS = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.mark.engine
@pytest.mark.xdist_group("vllm")
def test_vllm_answers_as_transformers_do_and_as_the_docs_say(tmp_path: Path) -> None:
    wide = scratch(tmp_path, width=128)  # heads of 32: of smaller ones vLLM on processors dies
    learnt = prepared(tmp_path / "storage", KNOWN * 40)
    trained = train_task(tmp_path, steps=40, key=learnt, model=wide, learning_rate="3e-3")
    train_here(trained)
    made = {"storage": trained.storage, "train": trained.key, "name": "one@pretrain"}
    folder = tmp_path / "model"
    export(ExportQuestion(**made, prefix="best", target=folder.as_uri(), stage="pretrain", model="hf://o/m"))
    wanted = Evaluate(
        harness=Harness(tasks=(harness_task(tmp_path, GSM, GSM_ROWS),)),
        prefixes=(EvalPrefix.BEST, EvalPrefix.WORST),
    )
    config = EvaluateConfig(stage_type=StageType.PRETRAIN, evaluate=wanted, seed=1)
    question = EvalQuestion(**made, config=config, run="r", run_uid="u")
    (tmp_path / "question.json").write_text(question.model_dump_json())
    (code,) = re.findall(r"^```python\n(from vllm.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    ids = Asker(folder).ids("1+2=", level=1)
    (tmp_path / "code.py").write_text(f"ids = {ids}\n{code}")

    command = [sys.executable, PROGRAM, tmp_path / "question.json", folder, tmp_path / "code.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["asked"] == ids
    assert isinstance(told["text"], str)
    header, scores, place = told["table"]
    assert scores.split()[:3] == ["tiny_gsm", "exact_match,strict-match", "1"]
    kept = Path(place.removeprefix("one@pretrain: ").removeprefix("file://"))
    rows = (kept / "harness.jsonl").read_text()
    shutil.rmtree(kept)
    assert [*evaluate(question)] == [header, scores, place], "by transformers"
    assert (kept / "harness.jsonl").read_text() == rows
