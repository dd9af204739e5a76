"""The quickstart by real engines in pods: vLLM reads, two pods train together."""

import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml
from cluster.on_node.operating import CLAIM, Site
from cluster.python import ROOT

QUICKSTART = ROOT / "examples" / "quickstart"


@pytest.fixture
def quickstart(site: Site) -> dict[str, Any]:
    """The quickstart's spec over little data, with its first stage and arm alone; training takes two pods."""
    make = [sys.executable, str(QUICKSTART / "make_data.py"), str(site.volume / "data")]
    small = ("--documents=300", "--conversations=10", "--tasks=20")
    subprocess.run([*make, *small], check=True, capture_output=True)
    for model in ("judge", "student"):
        shutil.copytree(QUICKSTART / model, site.volume / model)
    spec: dict[str, Any] = yaml.safe_load((QUICKSTART / "run.yaml").read_text())["spec"]
    (arm, *_), (stage, *_) = spec["arms"], spec["stages"]
    stage["annotate"] = {"samplePercent": 30}
    stage["train"] |= {"maxTokens": 32768, "evalEveryTokens": 16384, "numNodes": 2, "numProcPerNode": 1}
    return {**spec, "arms": [arm], "stages": [stage]}


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_quickstart_in_pods(site: Site, quickstart: dict[str, Any]) -> None:
    assert f"pvc://{CLAIM}/" in quickstart["storage"]["uri"]
    site.apply(**quickstart, runtimeRef={"name": f"{site.name}-engines"})
    site.wait("Complete", seconds=480)
    assert len(site.pods("pretrain/train/conditioned-s0")) == 2
