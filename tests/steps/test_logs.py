"""Logs of a step's process, as a cluster collects them and as people read them."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from make.tasks import task

from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exits import Exit
from ixt_workloads.contract.results import MAX_RESULT_BYTES, Result
from ixt_workloads.contract.settings import Evaluate, StageType

PROGRAM = """
import logging, sys, threading, warnings
from ixt_workloads import logs
from ixt_workloads.contract.versions import read_task

library = logging.getLogger("library")
library.addHandler(logging.StreamHandler())
library.propagate = False
logs.start()
logging.getLogger("ixt.x").info("before")
logs.about(read_task(sys.stdin.read()))
logging.getLogger("ixt.x").warning("two\\nlines, %s", "ä")
library.error("its own handler")
logging.getLogger("matplotlib").debug("not shown")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise ValueError("nobody caught this")
"""
JOB = task(
    EvaluateConfig(stage_type=StageType.PRETRAIN, evaluate=Evaluate(), seed=3),
    "file:///storage",
    arm="conditioned",
    seed=3,
)


def logged(**env: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=JOB.model_dump_json(),
        env={**os.environ, "IXT_INDEX": "2", **env},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()


FAILS = """
import logging
from ixt_workloads.frame import main

def fail(step):
    logging.getLogger("ixt.x").warning("line 17 has no text")
    raise ZeroDivisionError("in the middle of it")

main(fail)
"""


def test_a_step_that_fails_leaves_its_last_lines_beside_its_own_word(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text(
        JOB.model_copy(update={"storage": f"file://{tmp_path}"}).model_dump_json()
    )
    env = {"IXT_TASK": str(tmp_path / "task.json"), "IXT_RESULT": str(tmp_path / "result"), "IXT_LOG": "json"}
    done = subprocess.run(
        [sys.executable, "-c", FAILS], env={**os.environ, **env}, capture_output=True, check=False
    )
    assert done.returncode == Exit.CRASHED
    text = (tmp_path / "result").read_text()
    assert len(text.encode()) <= MAX_RESULT_BYTES
    result = Result.model_validate_json(text)
    assert result.message == "ZeroDivisionError: in the middle of it"
    assert result.log_tail.startswith("WARNING line 17 has no text\nERROR unforeseen error\nTraceback")
    assert result.log_tail.endswith("ZeroDivisionError: in the middle of it")


def test_in_a_cluster_every_line_is_an_object_that_says_of_what_it_is() -> None:
    lines = [json.loads(line) for line in logged(IXT_LOG="json", IXT_NAMESPACE="team-a")]
    assert [line["message"] for line in lines] == [
        "before",
        "two\nlines, ä",
        "its own handler",
        "unforeseen error: division by zero",
        "unforeseen error: nobody caught this",
    ]
    assert {name: lines[0][name] for name in ("level", "logger", "namespace", "pod")} == {
        "level": "INFO", "logger": "ixt.x", "namespace": "team-a", "pod": 2,
    }  # fmt: skip
    about = {"run": "test", "stage": "stage", "step": "evaluate/conditioned", "arm": "conditioned", "seed": 3}
    for line in lines[1:]:
        assert {name: line[name] for name in about} == about
        time = datetime.fromisoformat(line["time"])
        assert line["time"].endswith("Z")
        assert len(line["time"]) == len("2026-01-02T03:04:05.678Z")
        assert time.utcoffset() is not None
    assert "ZeroDivisionError: division by zero" in lines[3]["exception"]
    assert lines[4]["exception"].endswith("ValueError: nobody caught this")
    assert list(lines[4])[-2:] == ["message", "exception"], "what is cut off is the beginning"


def test_elsewhere_they_are_lines_for_people() -> None:
    lines = logged()
    assert lines[0].endswith("INFO ixt.x before")
    assert any(line.endswith("ERROR library its own handler") for line in lines)
    assert lines[-1] == "ValueError: nobody caught this"
