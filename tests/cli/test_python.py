"""`from ixt import Run`: a run from Python, and from a notebook."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from make.carried import carried_out
from make.cli import PLAIN_NODES, Desk
from make.lanes import BASIC, invent
from make.processes import PATIENCE_SECONDS

from ixt import Run, RunError
from ixt_operator.adapters.local import workdir as local

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
TRAIN = "pretrain/train/plain-s0"


@pytest.fixture
def here(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk at which this process sits."""
    monkeypatch.chdir(desk.folder)
    desk.tell({})
    for name, value in desk.environment().items():
        monkeypatch.setenv(name, value)
    return desk


def the_run(**settings: object) -> Run:
    return Run.from_file("run.yaml", settings=settings, runtime="stubs.yaml")


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def until_it_trains(run: Run) -> None:
    until(lambda: run.status().summary.step == "train/plain-s0")


# --- What a run is.


def test_all_that_is_wrong_is_told(here: Desk) -> None:
    text = here.manifest.read_text().replace("NextToken", "NexToken")
    (here.folder / "wrong.yaml").write_text(text)
    with pytest.raises(RunError) as refused:
        Run.from_file("wrong.yaml", settings={"stages.pretain.train.maxTokens": 1})
    assert "did you mean NextToken?" in str(refused.value)
    assert "spec.stages has no pretain: did you mean pretrain?" in str(refused.value)


def test_a_run_of_models(here: Desk) -> None:
    """As one of a file: what it says of itself can be read by both."""
    of_file = the_run(**{"metadata.name": "other", "stages.pretrain.train.optimizer.learningRate": "1e-3"})
    run = Run(of_file.manifest)
    assert run.validate() == []
    assert (run.name, run.workdir) == ("other", Path(".ixt/other"))
    assert repr(run) == "<Run other: Pending>"
    (here.folder / "documents.jsonl").unlink()
    with pytest.raises(RunError, match=r"run.yaml:\d+: .*there is no .*documents\.jsonl on this machine"):
        of_file.validate()


def test_what_is_not_there_yet(here: Desk) -> None:
    run = the_run()
    with pytest.raises(RunError, match="test has no report yet: it is Pending"):
        run.report()
    with pytest.raises(RunError, match="no lane pain: did you mean plain"):
        run.load("pain")
    with pytest.raises(RunError, match="plain-s0@pretrain is not trained yet"):
        run.load()
    assert run.curves().empty


# --- Carried out.


def test_a_run_that_is_killed_is_gone_on_with(here: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    """From Python as by `ixt run`; a second one finds the first at work."""
    here.tell({TRAIN: {"1": {"wait_for": str(here.folder / "go")}}})
    run = the_run()
    run.run(wait=False)
    until_it_trains(run)
    first = local.holder(here.workdir)
    assert first
    the_run().run(wait=False)
    assert local.holder(here.workdir) == first
    with pytest.raises(RunError, match=r"test goes on with other fields: wait\(\) for it, or stop\(\) it"):
        the_run(maxParallelLanes=2).run()
    os.kill(first, signal.SIGKILL)
    until(lambda: local.holder(here.workdir) is None)
    (here.folder / "go").touch()
    assert the_run().run().phase == "Complete"
    assert {node: here.made(node) for node in PLAIN_NODES} == dict.fromkeys(PLAIN_NODES, 1)
    assert run.report().path.read_text().endswith("<p>a stub wrote it</p>")
    assert "StepComplete: report" in capfd.readouterr().out


def test_a_run_that_is_stopped_or_fails_says_what_to_do(here: Desk) -> None:
    here.tell({TRAIN: {"1": {"hang": True}, "*": {"exit": 65, "message": "no such thing"}}})
    run = the_run()
    run.run(wait=False)
    until_it_trains(run)
    run.stop()
    assert local.holder(here.workdir) is None
    with pytest.raises(RunError, match=r"interrupted; go on with: ixt run .*manifest\.json"):
        run.wait()
    with pytest.raises(RunError, match="no such thing"):
        run.run()


# --- On a cluster.

KUBECTL = """#!/bin/sh
echo "$*" >> kubectl.log
case "$*" in
  *apply*) cat > applied.json; cp applied.json answer.json ;;
  *get*) cat answer.json ;;
  *missing*) echo 'Error from server (NotFound)' >&2; exit 1 ;;
esac
"""
"""A double of kubectl: what is applied is what there is, with the status that the test writes."""


@pytest.fixture
def kubectl(here: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of the PATH with that double."""
    program = here.folder / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return here.folder


def answered(folder: Path, generation: int = 1, **status: Any) -> None:
    applied = json.loads((folder / "applied.json").read_text())
    applied["metadata"] |= {"generation": 1, "uid": "1"}
    told = {"observedGeneration": generation, **status}
    (folder / "answer.json").write_text(json.dumps({**applied, "status": told}))


def test_a_run_on_a_cluster(kubectl: Path) -> None:
    run = the_run()
    assert run.submit(namespace="team").phase == "Pending"
    applied = json.loads((kubectl / "applied.json").read_text())
    assert (applied["kind"], applied["metadata"]) == ("IXTRun", {"name": "test", "namespace": "team"})
    assert applied["spec"]["suspend"] is False
    assert not (kubectl / ".ixt").exists()
    answered(kubectl, phase="Running")
    assert run.status().phase == "Running"
    answered(kubectl, generation=0, phase="Complete")
    assert run.status().phase == "Pending", "an edit that the operator has not seen yet"
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "no such data"}
    answered(kubectl, phase="Failed", conditions=[{**failed, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    with pytest.raises(RunError, match="test is Failed: no such data"):
        run.wait()
    run.stop()
    log = (kubectl / "kubectl.log").read_text().splitlines()
    assert log[0] == "--namespace=team apply -f -"
    assert log[-1] == '--namespace=team patch ixtrun test --type=merge -p {"spec":{"suspend":true}}'


# --- In a notebook.


def notebook(*, without: str) -> Any:
    """The example's cells over the desk's run, without those that have a tag."""
    nbformat = pytest.importorskip("nbformat", reason="make install brings it")
    found = nbformat.read(NOTEBOOK, as_version=4)
    found.cells = [cell for cell in found.cells if without not in cell.metadata.get("tags", ())]
    for cell in found.cells:
        if "run" in cell.metadata.get("tags", ()):
            told = '"quickstart/run.yaml", workdir="../.ixt/quickstart"'
            assert told in cell.source
            cell.source = cell.source.replace(told, '"run.yaml", runtime="stubs.yaml"')
    return found


def executed(found: Any, folder: Path) -> Any:
    from nbclient import NotebookClient

    return NotebookClient(
        found, resources={"metadata": {"path": str(folder)}}, timeout=PATIENCE_SECONDS
    ).execute()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_goes_on_where_a_dead_kernel_left_it(here: Desk) -> None:
    """Its run outlives the kernel: the same cells find it and wait for its end. What needs a real model is
    left out."""
    found = notebook(without="model")
    from nbclient.exceptions import DeadKernelError

    here.tell({TRAIN: {"*": {"wait_for": str(here.folder / "go")}}})
    dying = notebook(without="model")
    code = [cell for cell in dying.cells if cell.cell_type == "code"]
    code[1].source = "import os\nrun.run(wait=False)\nos.kill(os.getpid(), 9)"
    with pytest.raises(DeadKernelError):
        executed(dying, here.folder)
    until_it_trains(the_run())
    first = local.holder(here.workdir)
    assert first
    (here.folder / "go").touch()
    found.cells = [cell for cell in found.cells if "curves" not in cell.source]
    shown = [cell for cell in executed(found, here.folder).cells if cell.cell_type == "code"]
    *told, phase = shown[1].outputs
    (progress,) = [each for each in told if each.output_type == "display_data"]
    assert "▶" in progress.data["text/plain"] or "✔ report" in progress.data["text/plain"]
    assert "Complete" in phase.data["text/plain"]
    assert "a stub wrote it" in shown[2].outputs[0].data["text/html"]
    assert {node: here.made(node) for node in PLAIN_NODES} == dict.fromkeys(PLAIN_NODES, 1)


# --- What there is afterwards.


def test_curves_are_a_table(tmp_path: Path) -> None:
    made = invent(tmp_path / "storage", BASIC, points=3)
    workdir = tmp_path / "workdir"
    found = Run(carried_out(workdir, made.storage.as_uri(), made.inputs), workdir=workdir).curves()
    assert found.groupby("lane").size().to_dict() == {"conditioned-s0": 3, "next-token-s0": 3}
    assert found["tokens"].tolist()[:3] == [66_666, 133_333, 200_000]
    assert {"stage", "arm", "seed", "flops", "loss", "learningRate", "heldOutLoss", "sums/Best"} <= {*found}
