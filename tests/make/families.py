"""Tiny models of the families that people train, with weights large enough that attention matters."""

from typing import Any

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
WINDOW = 6
"""Tokens: shorter than the documents of the tests."""

_LAYERS = ["sliding_attention", "full_attention"]
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_GEMMA3 = {"head_dim": 8, "sliding_window": WINDOW, "layer_types": _LAYERS, "query_pre_attn_scalar": 16}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"tie_word_embeddings": False}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama3-rope": ("llama", {"rope_parameters": _LLAMA3}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "qwen3-moe": ("qwen3_moe", {"head_dim": 8, "num_experts": 4, "decoder_sparse_step": 1, **_EXPERTS}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "mistral-window": ("mistral", {"sliding_window": WINDOW}),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 8,
            "sliding_window": WINDOW,
            "layer_types": _LAYERS,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 10.0,
            "query_pre_attn_scalar": 16,
        },
    ),
    "gemma3-text": ("gemma3_text", _GEMMA3),
    "gemma3-nested": ("gemma3", {"text_config": {**SIZES, **_GEMMA3}}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", {"sliding_window": WINDOW, "layer_types": _LAYERS}),
    "phi3-window": ("phi3", {"sliding_window": WINDOW}),
    "phi4": ("phi3", {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0]}),
    "granite": (
        "granite",
        {"attention_multiplier": 0.3, "logits_scaling": 4.0, "residual_multiplier": 0.5},
    ),
    "glm4": ("glm4", {"head_dim": 8}),
    "gpt-oss": (
        "gpt_oss",
        {"head_dim": 8, "num_local_experts": 4, "sliding_window": WINDOW, "layer_types": _LAYERS, **_EXPERTS},
    ),
    "deepseek-v3": (
        "deepseek_v3",
        {
            **_LATENT, **_EXPERTS,
            "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
        },
    ),
}  # fmt: skip


def family(name: str, **changes: Any) -> Any:
    """A model of a family, its config with some changes: random weights, the same each time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, settings = FAMILIES[name]
    config = AutoConfig.for_model(kind, **{**SIZES, **settings, **changes})
    torch.manual_seed(1)
    build: Any = AutoModelForCausalLM.from_config
    model = build(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model
