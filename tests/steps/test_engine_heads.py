"""Models that vLLM on processors would start with, and die of at the first request."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.steps.annotate.server import CPU_HEADS, check_heads

SHAPE = {"hidden_size": 128, "num_hidden_layers": 2, "vocab_size": 512, "num_attention_heads": 8}


def folder(place: Path, **config: Any) -> Path:
    (place / "config.json").write_text(json.dumps({**SHAPE, **config}))
    return place


@pytest.mark.parametrize("config", [{}, {"num_attention_heads": 4, "head_dim": 48}])
def test_heads_that_it_does_not_compute_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(StepError, match=r"policy: .* has attention heads of (16|48), and vLLM on") as why:
        check_heads(folder(tmp_path, **config), "policy")
    assert why.value.code is Exit.CONFIG
    assert "serve it on GPUs" in why.value.hint


LATENT = {"kv_lora_rank": 8, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "head_dim": 48}


@pytest.mark.parametrize("config", [{"num_attention_heads": 4}, {"head_dim": 64}, LATENT])
def test_others_are_served(tmp_path: Path, config: dict[str, Any]) -> None:
    check_heads(folder(tmp_path, **config), "policy")


def test_they_are_those_of_the_installed_engine() -> None:
    found = find_spec("vllm")
    assert found
    assert found.origin
    source = Path(found.origin).parent / "v1" / "attention" / "backends" / "cpu_attn.py"
    told = re.search(r"def get_supported_head_sizes.*?return \[([^]]*)\]", source.read_text(), re.DOTALL)
    assert told
    assert tuple(map(int, told[1].split(","))) == CPU_HEADS
