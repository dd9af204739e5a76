"""What `kubectl ixt` does by pods, over a double of kubectl that runs a pod's command on this machine. A real
node runs such pods in tests/cluster/on_node/test_plugin.py."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from make import runs
from make.harness import GSM, GSM_ROWS, KNOWN, harness_task
from make.lanes import BASIC, invent
from make.prepared import prepared
from make.training import train_here, train_task
from typer.testing import CliRunner

from ixt_operator.api.run import IXTRun
from ixt_operator.cli import tool_pods
from ixt_operator.cli.evaluating import harness_of_a_pod
from ixt_operator.cli.kubectl import app
from ixt_operator.cli.tool_pods import FETCH_SECONDS
from ixt_operator.render.builtin_runtimes import BUILTIN_RUNTIMES
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exported import EvalQuestion, ExportQuestion
from ixt_workloads.contract.settings import Evaluate, StageType

DOUBLE = """#!{python}
import json, os, subprocess, sys
verb, *rest = sys.argv[1:]
here = os.environ["DOUBLE"]
said = os.path.join(here, "said")
if verb == "create":
    job = sys.stdin.read()
    open(os.path.join(here, "job.json"), "w").write(job)
    import yaml
    main = yaml.safe_load(job)["spec"]["template"]["spec"]["containers"][0]
    done = subprocess.run([sys.executable, *main["command"][1:]], capture_output=True, text=True)
    open(said, "w").write("a library warns\\n" + done.stdout + done.stderr)
    open(os.path.join(here, "code"), "w").write(str(done.returncode))
elif verb == "get" and rest[0] == "ixtruntime":
    print(open(os.path.join(here, "runtime.json")).read())
elif verb == "get" and rest[0] == "job":
    failed = open(os.path.join(here, "code")).read() != "0"
    ended = "Failed" if failed else "Complete"
    print(json.dumps({{"status": {{"conditions": [{{"type": ended, "status": "True"}}]}}}}))
elif verb == "logs":
    print(open(said).read(), end="")
elif verb == "delete":
    open(os.path.join(here, "deleted"), "a").write(rest[1] + "\\n")
"""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the double."""
    folder = tmp_path / "double"
    folder.mkdir()
    program = folder / "kubectl"
    program.write_text(DOUBLE.format(python=sys.executable))
    program.chmod(0o755)
    runtime = BUILTIN_RUNTIMES["cpu"]("ixt-workloads-cpu:test")
    (folder / "runtime.json").write_text(runtime.model_dump_json())
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("DOUBLE", str(folder))
    return folder


def run_in(storage: Path) -> IXTRun:
    return runs.run(storage={"uri": storage.as_uri()})


def question_about(tmp_path: Path, target: str) -> ExportQuestion:
    made = invent(tmp_path / "runs", BASIC[1:], points=2, documents=40)
    return ExportQuestion(
        storage=made.storage.as_uri(), train=made.inputs["pretrain/train/conditioned-s0"], prefix="best",
        target=target, name="$(HOME) conditioned-s0@pretrain", stage="pretrain", model="hf://owner/model",
    )  # fmt: skip


def test_a_pod_exports_a_model(double: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXT_PVC_ROOT", str(tmp_path / "volumes"))
    (tmp_path / "volumes" / "models").mkdir(parents=True)
    question = question_about(tmp_path, "pvc://models/one")
    assert tool_pods.exported(run_in(tmp_path / "runs"), question, ["hub-token"]) == "pvc://models/one"
    card = (tmp_path / "volumes" / "models" / "one" / "README.md").read_text()
    assert "# $(HOME) conditioned-s0@pretrain" in card, "no variable of the pod"
    job: Any = yaml.safe_load((double / "job.json").read_text())
    spec = job["spec"]["template"]["spec"]
    main = spec["containers"][0]
    assert {"secretRef": {"name": "hub-token"}} in main["envFrom"]
    claims = [each["persistentVolumeClaim"] for each in spec["volumes"] if "persistentVolumeClaim" in each]
    assert [claim for claim in claims if claim["claimName"] == "models"] == [{"claimName": "models"}]
    assert (double / "deleted").read_text() == f"{job['metadata']['name']}\n"
    assert "$(HOME)" not in json.dumps(job)


def test_a_pod_asks_tasks(double: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXT_PVC_ROOT", str(tmp_path / "volumes"))
    task = harness_task(tmp_path / "volumes" / "tasks", GSM, GSM_ROWS)
    trained = train_task(tmp_path / "runs", steps=2, key=prepared(tmp_path / "runs" / "storage", KNOWN))
    train_here(trained)
    harness = harness_of_a_pod(f"{task.name}=pvc://tasks/{task.name}", 1, None, 1)
    config = EvaluateConfig(stage_type=StageType.PRETRAIN, evaluate=Evaluate(harness=harness), seed=1)
    question = EvalQuestion(
        storage=trained.storage, train=trained.key, name="one@pretrain", config=config, run="r", run_uid="u"
    )
    header, scores, place = tool_pods.evaluated(run_in(tmp_path / "runs"), question).splitlines()[:3]
    assert header.split()[:3] == ["task", "metric", "items"]
    assert scores.split()[:3] == ["tiny_gsm", "exact_match,strict-match", "1"]
    assert place.startswith(f"one@pretrain: {trained.storage}/artifacts/")
    spec = yaml.safe_load((double / "job.json").read_text())["spec"]["template"]["spec"]
    mounts = [each for each in spec["containers"][0]["volumeMounts"] if "tasks" in each["mountPath"]]
    assert [each["readOnly"] for each in mounts] == [True]


def test_what_a_pod_says_of_its_failure_is_told(
    double: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = question_about(tmp_path, "pvc://models/one").model_copy(update={"train": "0" * 32})
    with pytest.raises(typer.Exit):
        tool_pods.exported(run_in(tmp_path / "runs"), question, [])
    said = capsys.readouterr().err
    assert f"its pod failed, or did not run within {FETCH_SECONDS} s" in said
    assert "is not trained yet" in said
    assert (double / "deleted").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "test", "./model"], "a pod cannot write to ./model on this machine: name hf://"),
        (["export", "test", "lane", "file:///model"], "a pod cannot write to file:///model on this machine"),
        (["export", "test", "s3://b/m", "--prefix", "worst"], "for --prefix best, none or level=N"),
        (["eval", "test", "--tasks", "gsm8k,own=./own"], "a pod cannot read own on this machine: name hf://"),
        (["eval", "test", "--tasks", "gsm8k,gsm8k"], "--tasks: gsm8k is named twice"),
        (["sample", "test", "--prompt", "1", "--levels", "low"], "--levels: must be numbers such as 1,5"),
    ],
)
def test_bad_usage_is_said_before_anything_is_asked(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert said in done.output
