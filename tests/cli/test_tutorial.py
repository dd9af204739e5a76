"""The tutorial's commands as they stand, in their order, over stub steps. Verbs that open a trained model
only say what they ask for (tests/steps/test_export.py has the rest); the last section needs the hub."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from make.cli import Desk
from make.corpora import texts
from typer.testing import CliRunner

from ixt_operator.cli import artifacts, ixt

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
SHELL = [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)]
INSTALLING, FOLDER, WRITING, *STEPS, WITH_A_HUB = SHELL


def test_the_tutorial_s_commands(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert INSTALLING == ["make install", ". .venv/bin/activate"]
    folder = desk.folder / "first-run"
    shutil.copytree(ROOT / "examples" / "quickstart", desk.folder / "examples" / "quickstart")
    shell(desk, *FOLDER)
    (folder / "texts").mkdir()
    for number, text in enumerate(texts(200)):
        (folder / "texts" / f"{number}.txt").write_text(text)
    shell(desk, "cd first-run", *WRITING)
    assert len((folder / "documents.jsonl").read_text().splitlines()) == 200
    reader = Desk(folder, desk.zygote)
    shutil.copy(desk.folder / "stubs.yaml", folder)
    asked = []
    monkeypatch.setattr(artifacts, "_tools", lambda *words, question=None: asked.append((words, question)))
    told = {}
    for line in (line for block in STEPS for line in block):
        program, verb, *words = shlex.split(line)
        if program == "cat":
            continue
        assert program == "ixt"
        if verb == "diff":
            edit(folder / "run.yaml")
        if verb in ("export", "sample"):
            monkeypatch.chdir(folder)
            done = CliRunner().invoke(ixt.app, [verb, *words])
            assert (done.exit_code, done.output) == (0, "")
        else:
            stubs = ["--runtime", "stubs.yaml"] if verb == "run" else []
            ran = reader.ixt(verb, *words, *stubs, HF_HUB_OFFLINE="1")
            assert (ran.code, ran.err) == (0, ""), line
            told[line] = ran.out
    (_, sampled), (_, exported) = asked
    assert json.loads(sampled or "")["levels"] == [1, 5]
    assert json.loads(exported or "")["target"] == (folder / "model").as_uri()
    assert Path(told["ixt report run.yaml"].strip()).is_file()
    again = re.findall(r"^run\s+(\S+)", told["ixt diff run.yaml"], re.MULTILINE)
    kinds = {node.split("/")[1] for node in again if "/" in node}
    assert kinds == {"train", "evaluate"}, "and nothing is annotated again"


def shell(desk: Desk, *lines: str) -> None:
    done = desk.program(["bash", "-e", "-c", "\n".join(lines)])
    assert (done.code, done.err) == (0, "")


def edit(manifest: Path) -> None:
    """As the tutorial says."""
    (line,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    text = manifest.read_text()
    manifest.write_text(text.replace("      train:\n", f"      train:\n{line}"))
    assert line in manifest.read_text()
