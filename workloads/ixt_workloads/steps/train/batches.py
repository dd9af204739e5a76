"""Makes tensors of packed sequences, and attention in which no document sees another.

Two layouts, both exact. Flat: the segments end to end, and attention run for each on its own
(FlashAttention's variable length on a GPU, slices elsewhere). Dense: whole sequences and a block-diagonal
boolean mask, of static shape, as torch.compile wants it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from ixt_workloads.data.packed import Packed

ATTENTION = "ixt_documents"
"""Name under which models find the attention of both layouts."""

IGNORED = -100

PRODUCTS_UP_TO = 1024
"""Tokens up to which attention in bfloat16 on a CPU is done by plain matrix products, which oneDNN does more
than twice as fast as torch's FlashAttention (measured at 256 to 2048). The scores of longer ones need much
memory."""


class Layout(Enum):
    """How a batch is laid out."""

    DENSE = "dense"
    FLAT = "flat"


@dataclass(frozen=True)
class Batch:
    """What one forward pass takes."""

    inputs: dict[str, Any]
    """Arguments of the model."""
    labels: torch.Tensor
    """[tokens]: the id that follows at each place, or IGNORED."""
    targets: int
    """Labels that count."""
    tokens: int
    """Tokens without padding."""
    squares: int
    """Sum of the squared lengths of the segments: what attention costs."""


def layout_for(device: torch.device, *, compiled: bool, bf16: bool) -> Layout:
    """The fastest exact layout. FlashAttention takes no float32."""
    if device.type == "cuda":
        return Layout.FLAT if bf16 else Layout.DENSE
    return Layout.DENSE if compiled else Layout.FLAT


def make_batch(
    rows: Sequence[Packed], layout: Layout, device: torch.device, *, counted: bool = True
) -> Batch:
    """Tensors of a few packed sequences. Not `counted`: no label counts, to keep ranks in step."""
    ids = np.stack([np.asarray(row.input_ids) for row in rows]).astype(np.int64)
    lengths = [_lengths(row, ids.shape[1]) for row in rows]
    labels = np.stack([_labels(row, length) for row, length in zip(rows, lengths, strict=True)])
    if not counted:
        labels[:] = IGNORED
    positions = np.stack([np.concatenate([np.arange(n) for n in length]) for length in lengths])
    real = [n for row, length in zip(rows, lengths, strict=True) for n in length[: len(row.starts)]]

    if layout is Layout.DENSE:
        segments = np.stack([np.repeat(np.arange(len(length)), length) for length in lengths])
        inputs = {"input_ids": _to(ids, device), "position_ids": _to(positions, device)}
        inputs["attention_mask"] = block_diagonal(_to(segments, device))
    else:
        bounds = np.cumsum(np.concatenate([[0], *lengths])).astype(np.int32)
        inputs = {
            "input_ids": _to(ids.reshape(1, -1), device),
            "position_ids": _to(positions.reshape(1, -1), device),
        }
        # Names that transformers passes on to the attention. The longest possible: shapes stay static.
        inputs |= {"cu_seq_lens_q": _to(bounds, device), "max_length_q": ids.shape[1]}
    return Batch(
        inputs=inputs,
        labels=_to(labels.reshape(-1), device),
        targets=int((labels != IGNORED).sum()),
        tokens=sum(real) if counted else 0,
        squares=sum(n * n for n in real) if counted else 0,
    )


def block_diagonal(segments: torch.Tensor) -> torch.Tensor:
    """[rows, 1, tokens, tokens]: true where a token may look at another, for [rows, tokens] of segments."""
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    return (segments[:, :, None] == segments[:, None, :]).logical_and_(causal)[:, None]


def _lengths(row: Packed, total: int) -> np.ndarray:
    """Lengths of the segments, and of the padding as one more."""
    ends = [*row.starts, row.length] if row.length == total else [*row.starts, row.length, total]
    return np.diff(ends)


def _labels(row: Packed, lengths: np.ndarray) -> np.ndarray:
    """The next token where it is a target. The first of a segment never is: nothing stands before it."""
    target = np.asarray(row.loss_mask).astype(bool)
    target[np.cumsum(lengths) - lengths] = False
    labels = np.full(len(target), IGNORED, dtype=np.int64)
    labels[:-1] = np.where(target[1:], np.asarray(row.input_ids)[1:].astype(np.int64), IGNORED)
    return labels


def _to(array: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within segments: query [rows, heads, tokens, size] to [rows, tokens, heads, size]."""
    # Under autocast rotary positions have made float32 of queries and keys.
    if cu_seq_lens_q is not None and query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        output = varlen_attn(
            query[0].transpose(0, 1).to(value.dtype).contiguous(),
            key[0].transpose(0, 1).to(value.dtype).contiguous(),
            value[0].transpose(0, 1).contiguous(),
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            window_size=(-1, 0),
            enable_gqa=key.shape[1] != query.shape[1],
        )
        assert isinstance(output, torch.Tensor)
        return output[None], None
    short = PRODUCTS_UP_TO if value.device.type == "cpu" and value.dtype is torch.bfloat16 else 0
    groups = query.shape[1] // key.shape[1]
    if cu_seq_lens_q is not None:
        lengths = cu_seq_lens_q.diff().tolist()
        longest = min(max(lengths), short)
        causal = value.new_full((longest, longest), -math.inf).triu_(1)
        parts = [
            _by_products(q, k, v, causal[:length, :length], scaling)
            if length <= short
            else functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
            for length, q, k, v in zip(
                lengths,
                torch.split(query, lengths, 2),
                torch.split(repeat_kv(key, groups), lengths, 2),
                torch.split(repeat_kv(value, groups), lengths, 2),
                strict=True,
            )
        ]
        return torch.cat(parts, 2).transpose(1, 2), None
    if attention_mask is not None and query.shape[2] <= short:
        masked = torch.zeros_like(attention_mask, dtype=value.dtype).masked_fill(~attention_mask, -math.inf)
        output = _by_products(query, repeat_kv(key, groups), repeat_kv(value, groups), masked, scaling)
        return output.transpose(1, 2).contiguous(), None
    # Evaluation has no mask: whole rows, padded on the right, plain causal.
    answer: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )
    return answer


def _by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, masked: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Attention by its definition; `masked` is -inf where a token may not look, else 0."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query * scale).to(value.dtype) @ key.to(value.dtype).transpose(-1, -2)
    return torch.softmax(scores + masked, -1) @ value


AttentionInterface.register(ATTENTION, _attention)
