"""Exports of the families that people train: what is written says what was trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from make.families import FAMILIES, family
from make.models import tokenizer_folder
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from ixt_workloads import models
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.steps.train.parallel import full_state
from ixt_workloads.steps.train.ranks import world
from ixt_workloads.store import open_store
from ixt_workloads.tokenizer import load_tokenizer

pytestmark = pytest.mark.engine

PROMPT = torch.tensor([[7, 11, 13, 17, 19]])


def exported(folder: Path, model: Any, dtype: torch.dtype, others: dict[str, bytes] | None = None) -> Path:
    with world():
        state = full_state(model)
    tokenizer = load_tokenizer(tokenizer_folder(folder.parent / "tokenizer"))
    folder.mkdir()
    models.save_folder(folder, model, tokenizer, state=state, dtype=dtype, contract=None, others=others)
    return folder


def greedy(model: Any) -> list[int]:
    model.eval()
    made = model.generate(PROMPT, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=1)
    tokens: list[int] = made[0, PROMPT.shape[1] :].tolist()
    return tokens


def tensors(folder: Path) -> dict[str, torch.dtype]:
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                assert name not in found
                found[name] = file.get_tensor(name).dtype
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_an_export_says_what_the_trained_model_says(name: str, tmp_path: Path) -> None:
    model = family(name)
    model.config.use_cache = True
    folder = exported(tmp_path / "export", model, torch.float32)
    wanted = greedy(model)
    assert greedy(AutoModelForCausalLM.from_pretrained(folder)) == wanted
    assert greedy(models.load_model(folder)) == wanted
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert any(each.endswith("lm_head.weight") for each in tensors(folder)) == (not tied)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] == tied


def test_the_dtype_is_kept_and_told(tmp_path: Path) -> None:
    folder = exported(tmp_path / "export", family("gemma3-nested"), torch.bfloat16)
    assert set(tensors(folder).values()) == {torch.bfloat16}
    settings = json.loads((folder / "config.json").read_text())
    assert settings["dtype"] == settings["text_config"]["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(folder).dtype is torch.bfloat16


def test_what_the_model_came_with_goes_on(tmp_path: Path) -> None:
    came = tmp_path / "came"
    came.mkdir()
    (came / "LICENSE").write_text("Do good.")
    (came / "USE_POLICY.md").write_text("No harm.")
    (came / "NOTICE of a friend").write_text("A name that no store takes.")
    (came / "README.md").write_text("About another model.")
    (came / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_k": 20}')
    others = models.carried(came)
    assert sorted(others) == ["LICENSE", "USE_POLICY.md", "generation_config.json"]
    folder = exported(tmp_path / "export", family("llama"), torch.float32, others)
    assert (folder / "LICENSE").read_text() == "Do good."
    told = json.loads((folder / "generation_config.json").read_text())
    assert (told["do_sample"], told["temperature"], told["top_k"]) == (True, 0.6, 20)


def test_a_tensor_that_no_store_takes_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"file://{tmp_path}")
    model = family("llama")
    models.check_size(model, torch.float32, store)
    monkeypatch.setattr(store, "largest", 8192)
    with pytest.raises(
        StepError, match=r"has 12,672 bytes, and file://.* takes files of 8,192 at most"
    ) as caught:
        models.check_size(model, torch.float32, store)
    assert caught.value.code is Exit.CONFIG
    models.check_size(model, torch.bfloat16, store)
