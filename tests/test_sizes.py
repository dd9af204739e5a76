"""The arithmetic of memory: parameters as transformers builds them, and what a training chooses by it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from make.families import FAMILIES, SIZES
from transformers import AutoConfig, AutoModelForCausalLM

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import (
    ActivationCheckpointing,
    Export,
    MomentsPrecision,
    Optimizer,
    Parallelism,
    Precision,
    Train,
)
from ixt_workloads.flops import config_in
from ixt_workloads.sizes import RECOMPUTING, Decoder, Training, fit, memory_of, saved_bytes, state_of

ROOT = Path(__file__).parents[1]
LARGER = {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
QWEN = {
    "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
    "tie_word_embeddings": False,
}  # fmt: skip


def larger(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a family with parameters enough that norms and biases hardly count."""
    if "text_config" in settings:
        return {"text_config": larger(settings["text_config"])}
    own = {**SIZES, **settings, **LARGER}
    if "layer_types" in own:
        own["layer_types"] = own["layer_types"] * 2
    if "no_rope_layers" in own:
        own["no_rope_layers"] = own["no_rope_layers"] * 2
    if "moe_intermediate_size" in own:
        own["moe_intermediate_size"] = 512
    return own


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_are_counted_as_transformers_builds_them(name: str, tmp_path: Path) -> None:
    kind, settings = FAMILIES[name]
    config = AutoConfig.for_model(kind, **larger(settings))
    with torch.device("meta"):
        build: Any = AutoModelForCausalLM.from_config
        model = build(config)
    config.save_pretrained(tmp_path)
    decoder = Decoder.from_config(config_in(tmp_path))
    of_text = [p.numel() for name, p in model.named_parameters() if not re.search("vision|multi_modal", name)]
    assert decoder.parameters == pytest.approx(sum(of_text), rel=0.01)
    head, embeddings = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert decoder.tied == (head is embeddings)


def test_less_is_kept_the_more_is_computed_again() -> None:
    decoder = Decoder.from_config(QWEN)
    given = Training(Precision.BF16, MomentsPrecision.FP32, 8, True, True)
    found = [memory_of(decoder, given, mode, 1, 8192).activations for mode in RECOMPUTING]
    assert found[0] > 1.5 * found[1] > 4 * found[2] > 0


def test_state_is_sixteen_bytes_a_parameter_and_twelve_with_narrow_moments() -> None:
    decoder = Decoder.from_config({**QWEN, "vocab_size": 1})
    given = Training(Precision.FP32, MomentsPrecision.FP32, 1, False, False)
    assert sum(state_of(decoder, given)) == pytest.approx(16 * decoder.parameters, rel=1e-3)
    narrow = given._replace(moments=MomentsPrecision.BF16)
    assert sum(state_of(decoder, narrow)) == pytest.approx(12 * decoder.parameters, rel=1e-3)
    assert saved_bytes(decoder, narrow) == 8 * decoder.parameters


def test_the_best_weights_are_kept_in_the_precision_of_the_export() -> None:
    decoder, train = Decoder.from_config(QWEN), Train(max_tokens=10**9)
    best = train.model_copy(update={"export": Export.BEST})
    last, kept = (fit(each, decoder, 8192, ranks=8, gpu=True).memory.weights for each in (train, best))
    assert kept - last == pytest.approx(2 * decoder.parameters, rel=1e-6)


def test_auto_shards_and_computes_again_as_much_as_it_must() -> None:
    decoder, train = Decoder.from_config(QWEN), Train(max_tokens=10**9)
    alone = fit(train, decoder, 8192, ranks=1, gpu=True)
    assert (alone.mode, alone.training.sharded) == (ActivationCheckpointing.NONE, False)
    eight = fit(train, decoder, 8192, ranks=8, gpu=True, available=80e9)
    assert (eight.mode, eight.training.sharded) == (ActivationCheckpointing.SELECTIVE, True)
    assert eight.memory.total < 72e9
    full = train.model_copy(update={"activation_checkpointing": ActivationCheckpointing.FULL})
    assert fit(full, decoder, 8192, ranks=8, gpu=True, available=80e9).mode is ActivationCheckpointing.FULL
    one = train.model_copy(update={"micro_batch_sequences": 3})
    assert fit(one, decoder, 8192, ranks=8, gpu=True, available=200e9).rows == 3


@pytest.mark.parametrize(
    ("settings", "ranks", "hint"),
    [
        ({}, 1, "train on more ranks .*, or set train.optimizer.momentsPrecision: BF16, or shorten"),
        ({"parallelism": Parallelism.REPLICATE}, 8, "set train.parallelism: FullyShard"),
        ({"micro_batch_sequences": 64}, 8, "lower train.microBatchSequences"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_to_do(settings: dict[str, Any], ranks: int, hint: str) -> None:
    train = Train(max_tokens=10**9, **settings)
    with pytest.raises(StepError, match=r"8,190,726,144 parameters do not fit: a rank would need") as caught:
        fit(train, Decoder.from_config(QWEN), 8192, ranks=ranks, gpu=True, available=80e9)
    assert caught.value.code is Exit.OUT_OF_MEMORY
    assert re.search(hint, caught.value.hint)


def test_an_eight_billion_model_fits_one_large_gpu_with_narrow_moments() -> None:
    train = Train(max_tokens=10**9, optimizer=Optimizer(moments_precision=MomentsPrecision.BF16))
    found = fit(train, Decoder.from_config(QWEN), 8192, ranks=1, gpu=True, available=141e9)
    assert found.memory.total < 0.9 * 141e9


def test_the_table_of_the_docs_is_what_the_command_prints() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/training_memory.py", "--table"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout in (ROOT / "docs/memory.md").read_text()


@pytest.mark.engine
def test_a_training_takes_the_memory_that_was_planned() -> None:
    command = [sys.executable, ROOT / "benchmarks/training_memory.py", "--size", "1M", "--precision", "FP32"]
    done = subprocess.run([*command, "--recompute", "None,Full"], capture_output=True, text=True, check=True)
    for case, found in json.loads(done.stdout.splitlines()[-1])["cases"].items():
        assert 0.85 <= found["ratio"] <= 1.15, (case, found)
