"""Attention as a model asks for it, within documents: causal, with windows by layer, logit soft-capping,
sinks, query scaling and dropout. `ATTENTION` is the name under which transformers' models find it.

Which backend does what:

| Backend | Device | Window | Soft-capping, sinks | Dropout |
|---|---|---|---|---|
| FlashAttention of variable length | GPU, BF16, flat | yes | no | no |
| torch's scaled dot product | any | yes | no | yes |
| products of matrices, scores kept whole | any | yes | yes | yes |

The first that does what a layer asks for is taken. A model that asks for anything else is refused by name.
"""

import math
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from ixt_workloads.contract.exits import Exit, StepError

ATTENTION = "ixt_documents"
_PROBE = "ixt_probe"

PRODUCTS_UP_TO = 1024
"""Tokens up to which attention in bfloat16 on a CPU is done by plain matrix products, which oneDNN does more
than twice as fast as torch's FlashAttention (measured at 256 to 2048). The scores of longer ones need much
memory."""

_LAYERS = {"full_attention", "sliding_attention"}

_WITHOUT_EFFECT = {
    "position_ids", "cache_position", "use_cache", "is_causal", "output_attentions", "output_hidden_states",
    "output_router_logits",
}  # fmt: skip
"""What models pass on that attention of whole documents needs no part of."""


def check_attention(model: Any) -> None:
    """Raises StepError(CONFIG) for a model whose attention is not done here."""
    config = model.config.get_text_config()
    kind = config.model_type
    others = sorted(set(getattr(config, "layer_types", None) or ()) - _LAYERS)
    if others:
        raise _refused(kind, f"has layers of type {', '.join(others)}")
    if getattr(config, "attention_chunk_size", None):
        raise _refused(kind, "attends by chunks (attention_chunk_size)")
    if getattr(config, "is_encoder_decoder", False) or not getattr(config, "is_causal", True):
        raise _refused(kind, "is no causal decoder")
    if not model._supports_attention_backend:
        raise _refused(kind, "does its attention itself, where documents of a sequence would see each other")


def check_documents(model: Any) -> None:
    """Raises StepError(CONFIG) for a model that does not tell its attention where documents end, and would
    let those of a sequence see each other. It may be on torch's meta device; one step forward is done."""
    told: list[bool] = []

    def probe(*tensors: Any, **given: Any) -> tuple[torch.Tensor, None]:
        mask = tensors[4] if len(tensors) > 4 else given.get("attention_mask")
        told.append(mask is None and given.get("cu_seq_lens_q") is not None)
        return attend(*tensors, **given)

    AttentionInterface.register(_PROBE, probe)
    config = model.config.get_text_config()
    model.set_attn_implementation(_PROBE)
    device = next(model.parameters()).device
    with torch.no_grad():
        model(
            input_ids=torch.zeros(1, 8, dtype=torch.long, device=device),
            position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]], device=device),
            cu_seq_lens_q=torch.tensor([0, 3, 8], dtype=torch.int32),
            max_length_q=5,
            use_cache=False,
        )
    model.set_attn_implementation(ATTENTION)
    if not all(told) or len(told) < config.num_hidden_layers:
        raise _refused(config.model_type, "does not tell its attention where documents end")


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """[rows, heads, tokens, size] of queries to [rows, tokens, heads, size].

    With `cu_seq_lens_q` (bounds of the segments) the one row is segments end to end; else the boolean
    `attention_mask` [rows, 1, tokens, tokens] says what may look at what; with neither, rows are causal.
    """
    for name, given in others.items():
        if given is not None and name not in _WITHOUT_EFFECT:
            raise _refused(type(module).__name__, f"asks attention for {name}")
    if not getattr(module, "is_causal", True):
        raise _refused(type(module).__name__, "attends to what follows")
    whole = softcap is not None or s_aux is not None
    # Under autocast rotary positions have made float32 of queries and keys.
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if cu_seq_lens_q is not None and query.is_cuda and not (whole or dropout):
        return _by_flash(query, key, value, cu_seq_lens_q, max_length_q, scale, sliding_window), None
    short = PRODUCTS_UP_TO if value.device.type == "cpu" and value.dtype is torch.bfloat16 else 0
    groups = query.shape[1] // key.shape[1]
    key, value = (given.repeat_interleave(groups, 1) if groups > 1 else given for given in (key, value))

    lengths = [query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.diff().tolist()
    longest = max(lengths)
    near = causal(longest, query.device)
    if sliding_window is not None:
        near = near.triu(1 - sliding_window)

    def rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        tokens = q.shape[2]
        if sliding_window is not None and tokens > sliding_window:
            mask = near[:tokens, :tokens] if mask is None else mask & near
        if whole or tokens <= short:
            seen = near[:tokens, :tokens] if mask is None else mask
            return _by_products(q, k, v, seen, scale, softcap, s_aux, dropout)
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, dropout_p=dropout
        )

    if cu_seq_lens_q is None:
        output = rows(query, key, value, attention_mask)
    else:
        split = [torch.split(given, lengths, 2) for given in (query, key, value)]
        output = torch.cat([rows(q, k, v, None) for q, k, v in zip(*split, strict=True)], 2)
    return output.transpose(1, 2).contiguous(), None


def causal(tokens: int, device: torch.device) -> torch.Tensor:
    """[tokens, tokens]: true where a token may look at another of the same document."""
    return torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()


def _by_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    size = value.shape[-1]
    # Multi-head latent attention has narrower values; FlashAttention wants one size.
    value = functional.pad(value, (0, query.shape[-1] - size))
    q, k, v = (given[0].transpose(0, 1).contiguous() for given in (query, key, value))
    output = varlen_attn(
        q, k, v, bounds, bounds, longest, longest,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )  # fmt: skip
    assert isinstance(output, torch.Tensor)
    return output[None, ..., :size]


def _by_products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seen: torch.Tensor,
    scale: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    """Attention by its definition. `sinks` [heads] take part in the softmax and have no value."""
    scores = (query * scale) @ key.transpose(-1, -2)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~seen, -math.inf)
    if sinks is not None:
        sink = sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        weights = torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]
    else:
        weights = torch.softmax(scores, -1)
    return functional.dropout(weights, dropout) @ value


def _refused(what: str, why: str) -> StepError:
    return StepError(
        Exit.CONFIG,
        f"{what} {why}, which ixt does not train",
        "take one of full or sliding attention throughout: Llama, Qwen, Gemma, Mistral, OLMo, Phi, ...",
    )


AttentionInterface.register(ATTENTION, attend)
