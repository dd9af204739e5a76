"""The cost formula against real models' weights and against method.md's figures."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.flops import ModelShape, judging_flops, training_flops

SMALL = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 100}
DENSE = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 96}
MLA = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}


def built(model_type: str, **fields: object) -> tuple[torch.nn.Module, ModelShape]:
    config = AutoConfig.for_model(model_type, **fields)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config), ModelShape.from_config(config.to_dict())


def matmul_parameters(model: torch.nn.Module) -> int:
    """Matrices other than the embedding, the head counted once even when it is tied."""
    head = model.get_output_embeddings().weight
    embeddings = model.get_input_embeddings().weight
    return head.numel() + sum(
        value.numel()
        for name, value in model.named_parameters()
        if value.ndim == 2 and value is not head and value is not embeddings and "wpe" not in name
    )


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("llama", DENSE),
        ("llama", {**DENSE, "tie_word_embeddings": True}),
        ("qwen3", {**DENSE, "head_dim": 32}),
        ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100}),
    ],
)
def test_dense_models_are_counted_as_their_weights_are(model_type: str, fields: dict[str, object]) -> None:
    model, shape = built(model_type, **fields)
    assert shape.parameters == matmul_parameters(model)


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("mixtral", {**DENSE, "num_local_experts": 8, "num_experts_per_tok": 2}),
        ("qwen3_moe", {**DENSE, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                       "mlp_only_layers": [1]}),
        ("deepseek_v3", {**DENSE, **MLA, "n_routed_experts": 8, "num_experts_per_tok": 2,
                         "moe_intermediate_size": 32, "n_shared_experts": 1, "first_k_dense_replace": 1,
                         "num_key_value_heads": 4}),
    ],
)  # fmt: skip
def test_of_experts_only_the_active_ones_count(model_type: str, fields: dict[str, object]) -> None:
    model, shape = built(model_type, **fields)
    # Experts' weights are stacked: three dimensions, the first of which counts the experts.
    experts = sum(value.numel() for value in model.parameters() if value.ndim == 3)
    assert experts > 0
    assert shape.parameters == matmul_parameters(model) + experts * 2 // 8


def test_a_nested_text_config_is_read() -> None:
    assert ModelShape.from_config({"text_config": DENSE}) == ModelShape.from_config(DENSE)


def test_annotation_costs_what_the_method_says() -> None:
    judge, student = ModelShape(2_000_000, 0, 0, 0), ModelShape(350_000, 0, 0, 0)
    ratio = judging_flops(judge, 236, 0) / training_flops(student, 66, 0)
    assert ratio == pytest.approx(6.8, abs=0.1)


def test_attention_grows_with_the_context() -> None:
    shape = ModelShape(1000, 2, 8, 10)
    assert training_flops(shape, 10, 100) == 10 * (6 * 1000 + 12 * 2 * 8 * 100)
    assert judging_flops(shape, 10, 100) * 3 == training_flops(shape, 10, 100)


def test_a_config_without_sizes_is_refused() -> None:
    with pytest.raises(StepError, match="hidden_size") as caught:
        ModelShape.from_config({"model_type": "llama"})
    assert caught.value.code == Exit.CONFIG
