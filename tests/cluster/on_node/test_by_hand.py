"""`make cluster-up`: README's lines run on its cluster as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import sandbox
from cluster.on_node.test_teardown import left

ROOT = Path(__file__).parents[3]
FIRST, LAST = (
    "kubectl apply -f examples/quickstart/data.yaml",
    "kubectl apply -f examples/quickstart/run.yaml",
)
LOOKED = (
    "kubectl get sc -o name",
    "kubectl wait --for=jsonpath='{.status.stages[0].steps[0].state}'=Complete ixt/quickstart --timeout=3m",
    "kubectl get ixt",
    "kubectl ixt status quickstart",
)


def shell(*lines: str) -> str:
    """What a shell prints that runs the lines, of which none may fail."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cluster(command: str) -> str:
    """What `python -m cluster` prints, as make calls it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    made = [sys.executable, "-m", "cluster", command]
    done = subprocess.run(made, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_on_a_cluster_that_outlives_who_started_it() -> None:
    sandbox.sweep()
    before = left()
    if sandbox.living(0):
        pytest.skip("one runs: make cluster-down ends it")
    section = (ROOT / "README.md").read_text().partition("## On Kubernetes")[2]
    (block, *_) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = block.splitlines()
    commands = lines[lines.index(FIRST) : lines.index(LAST) + 1]
    try:
        point = cluster("up")
        assert cluster("up") == point
        said = shell(point, *commands, *LOOKED)
        assert said.startswith("persistentvolumeclaim/ixt-quickstart created\n"), said
        assert "storageclass.storage.k8s.io/folders" in said
        assert re.search(r"^quickstart +Running", said, re.MULTILINE), said
        assert re.search(r"✔ inventory +[\d,]+ documents", said), said
    finally:
        assert cluster("down") == "ended\n"
    assert cluster("down") == "no cluster runs\n"
    assert left() == before
