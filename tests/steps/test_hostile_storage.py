"""Folders that a hostile writer places where a run looks: nothing in them is run."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from make.models import model_folder, tokenizer_folder
from make.training import artifact, train_here, train_task

from ixt_workloads import models
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.settings import Checkpoint
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.train import shards
from ixt_workloads.tokenizer import load_tokenizer

SELDOM = Checkpoint(interval_seconds=3600)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self._file,)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was stopped and has one checkpoint."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(StepError, match="stopped after step 3"):
        train_here(train_task(folder, checkpoint=SELDOM), stop_after=2)
    return folder


@pytest.fixture
def placed(stopped: Path, tmp_path: Path) -> tuple[Task, Path]:
    """A next attempt, and its newest checkpoint, which a hostile writer may change."""
    folder = shutil.copytree(stopped, tmp_path / "copy")
    task = train_task(folder, attempt=1, checkpoint=SELDOM)
    (checkpoint,) = (folder / "storage/work" / task.key / "uid-1/0").glob("step-*")
    return task, checkpoint


def test_a_checkpoint_has_no_pickled_metadata(placed: tuple[Task, Path]) -> None:
    _, checkpoint = placed
    assert {path.name for path in checkpoint.iterdir()} == {"metadata.json", "state.json", "__0_0.distcp"}


def test_a_pickle_beside_a_checkpoint_is_not_read(placed: tuple[Task, Path], tmp_path: Path) -> None:
    task, checkpoint = placed
    (checkpoint / ".metadata").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    train_here(task)
    assert artifact(task).summary["steps"] == 12
    assert not (tmp_path / "ran").exists()


def test_a_tensor_that_is_a_pickle_is_refused(placed: tuple[Task, Path], tmp_path: Path) -> None:
    task, checkpoint = placed
    torch.save(Evil(tmp_path / "ran"), checkpoint / "__0_0.distcp")
    size = (checkpoint / "__0_0.distcp").stat().st_size
    told = json.loads((checkpoint / "metadata.json").read_text())
    for tensor in told["tensors"].values():
        for chunk in tensor["chunks"]:
            chunk |= {"offset": 0, "length": size}
    (checkpoint / "metadata.json").write_text(json.dumps(told))
    with pytest.raises(StepError, match=r"checkpoint work/.* cannot be read") as refused:
        train_here(task)
    assert refused.value.code is Exit.DATA
    assert not (tmp_path / "ran").exists()


def pickled_metadata(checkpoint: Path) -> None:
    (checkpoint / "metadata.json").rename(checkpoint / ".metadata")


def leading_out(checkpoint: Path) -> None:
    file = checkpoint / "metadata.json"
    file.write_text(file.read_text().replace("__0_0.distcp", "../../../../../../secret"))


def deep(checkpoint: Path) -> None:
    (checkpoint / "metadata.json").write_text('{"tensors":' * 100_000)


def linked(checkpoint: Path) -> None:
    file = checkpoint / "__0_0.distcp"
    file.rename(checkpoint / "elsewhere")
    file.symlink_to("elsewhere")


def other_tensors(checkpoint: Path) -> None:
    file = checkpoint / "metadata.json"
    file.write_text(file.read_text().replace('"model.', '"evil.'))


def other_state(checkpoint: Path) -> None:
    file = checkpoint / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"state": {"step": "many"}}))


@pytest.mark.parametrize("change", [pickled_metadata, leading_out, deep, linked, other_tensors, other_state])
def test_a_changed_checkpoint_is_named(placed: tuple[Task, Path], change: Callable[[Path], None]) -> None:
    task, checkpoint = placed
    change(checkpoint)
    with pytest.raises(StepError, match=r"work/.*step-0+3.* cannot be read") as refused:
        train_here(task)
    assert refused.value.code is Exit.DATA
    assert "run again" in refused.value.hint


def test_the_checkpoint_of_another_run_is_left_out(placed: tuple[Task, Path]) -> None:
    task, checkpoint = placed
    foreign = checkpoint.parent.parent / "9" / "step-000000099"
    shutil.copytree(checkpoint, foreign)
    state = json.loads((foreign / "state.json").read_text())
    (foreign / "state.json").write_text(json.dumps({**state, "run": "uid-other"}))
    train_here(task)
    assert artifact(task).summary["steps"] == 12


def test_metadata_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_METADATA_BYTES", 10)
    (tmp_path / "metadata.json").write_text('{"tensors": {}}')
    with pytest.raises(shards.DamagedError, match="has more than 10 bytes"):
        shards.Reader(tmp_path).read_metadata()


def test_a_signed_checkpoint_goes_on_and_a_changed_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IXT_SIGNING_KEY", "0" * 64)
    with pytest.raises(StepError, match="stopped after step 3"):
        train_here(train_task(tmp_path, checkpoint=SELDOM), stop_after=2)
    task = train_task(tmp_path, attempt=1, checkpoint=SELDOM)
    (checkpoint,) = (tmp_path / "storage/work" / task.key / "uid-1/0").glob("step-*")
    content = (checkpoint / "__0_0.distcp").read_bytes()
    (checkpoint / "__0_0.distcp").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = r"work/.* cannot be read: __0_0.distcp was changed after it was saved"
    with pytest.raises(StepError, match=said):
        train_here(task)
    (checkpoint / "__0_0.distcp").write_bytes(content)
    # A newer one that nobody with the key has signed.
    shutil.copytree(checkpoint, checkpoint.parent.parent / "9" / "step-000000009")
    reporter = Reporter()
    train_here(task, reporter=reporter)
    assert reporter.progress().message.endswith("resumed from step 3")


CODE = """
from pathlib import Path
Path({file!r}).touch()
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model
from transformers import PreTrainedTokenizerFast as Tokens
"""


@pytest.mark.parametrize(
    "load",
    [models.load_config, models.load_model, load_tokenizer, lambda folder: models.new_model(folder, 1)],
    ids=["config", "model", "tokenizer", "new model"],
)
@pytest.mark.parametrize("model_type", ["llama", "evil"])
def test_code_in_a_model_folder_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[Path], Any], model_type: str
) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("builtins.input", asked)
    folder = model_folder(tmp_path / "model")
    tokenizer_folder(folder)
    (folder / "evil.py").write_text(CODE.format(file=str(tmp_path / "ran")))
    settings = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": model_type, "auto_map": code}))
    file = folder / "tokenizer_config.json"
    tokens = {**json.loads(file.read_text()), "auto_map": {"AutoTokenizer": [None, "evil.Tokens"]}}
    file.write_text(json.dumps({**tokens, "tokenizer_class": "Tokens"}))
    try:
        load(folder)
    except StepError as error:
        assert error.code in (Exit.CONFIG, Exit.DATA)
    assert not (tmp_path / "ran").exists()


def test_nobody_answers_on_standard_input() -> None:
    code = (
        "import sys; from ixt_workloads.frame import without_input; without_input(); print(sys.stdin.read())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], input="y\n", capture_output=True, text=True, check=True
    ).stdout
    assert out == "\n"
