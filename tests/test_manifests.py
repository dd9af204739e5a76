"""The manifests of examples: `ixt validate` takes each as it stands, and a page shows it."""

import re
import shutil
from pathlib import Path

import pytest
from make import rollouts
from typer.testing import CliRunner

from ixt_operator.cli import ixt

ROOT = Path(__file__).parents[1]
CASES = {file.stem: file for file in (ROOT / "examples").glob("*.yaml")}


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_case_is_valid_and_nothing_is_doubtful(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts.allow(monkeypatch)
    monkeypatch.setattr("ixt_operator.cli.load.gpus_here", lambda: 1)  # without one, BF16 is warned of
    for place in ("web.jsonl", "chats.jsonl", "questions.jsonl", "model"):
        (tmp_path / place).touch()
    manifest = shutil.copy(CASES[case], tmp_path)
    done = CliRunner().invoke(ixt.app, ["validate", manifest])
    assert done.output == f"{manifest}: IXTRun {case} is valid\n"


def test_each_case_has_a_page() -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    assert set(re.findall(r'^--8<-- "examples/([\w-]+)\.yaml"$', pages, re.MULTILINE)) == {*CASES}
    assert {*CASES} == {"web", "scores", "chat", "stages", "post-training"}
