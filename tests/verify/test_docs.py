"""docs/post-training.md: its own verifier, written, tried and named as it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from ixt_workloads.contract.settings import Calibration, LevelFrom
from ixt_workloads.contract.verifiers import Verifier, VerifierType
from ixt_workloads.feedback.combining import SCALE, combined
from ixt_workloads.feedback.levels import level_of, thresholds

TEXT = (Path(__file__).parents[2] / "docs" / "post-training.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_a_reader_s_own_verifier_says_what_the_page_shows(tmp_path: Path) -> None:
    for code in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name
        (tmp_path / name[1]).write_text(code)
    (shown,) = blocks("text")
    env = {**os.environ, "PYTHONPATH": f".:{os.environ.get('PYTHONPATH', '')}"}
    assert blocks("sh") == ["PYTHONPATH=. python try_it.py\n"]
    done = subprocess.run(
        [sys.executable, "try_it.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (shown, "")


def test_the_manifest_s_part_is_a_verifier() -> None:
    (text,) = (text for text in blocks("yaml") if text.startswith("verifier:"))
    found = Verifier.model_validate(yaml.safe_load(text)["verifier"])
    assert (found.type, found.function) == (VerifierType.FUNCTION, "sums_reward.score")
    assert [found.passes(score) for score in (0.0, 0.5, 1.0)] == [False, True, True]


def test_each_type_has_a_row() -> None:
    assert re.findall(r"^\| `([A-Z]\w+)` \|", TEXT, re.MULTILINE) == list(VerifierType)


def test_the_example_s_levels_are_computed() -> None:
    rows = re.findall(r"\| (right|wrong), \d \| (\d) \|.*= (0\.\d\d) \| (\d) of 5 \|", TEXT)
    bounds = thresholds({}, *SCALE, 5, Calibration.FIXED)
    for word, judged, score, level in rows:
        found = combined(LevelFrom.BOTH, float(word == "right"), float(judged), (1.0, 5.0))
        assert found is not None
        assert (f"{found:.2f}", str(level_of(found, bounds))) == (score, level)
    assert len(rows) == 2
