"""Makes tensors of packed sequences, in which no document sees another.

Two layouts, both exact. Flat: the segments end to end, and attention run for each on its own. Dense: whole
sequences and a block-diagonal boolean mask, of static shape, as torch.compile wants it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch

from ixt_workloads.attention import causal
from ixt_workloads.data.packed import Packed
from ixt_workloads.losses import IGNORED


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
    ids = np.stack([row.input_ids for row in rows]).astype(np.int64)
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
    same = segments[:, :, None] == segments[:, None, :]
    return same.logical_and_(causal(segments.shape[1], segments.device))[:, None]


def _lengths(row: Packed, total: int) -> np.ndarray:
    """Lengths of the segments, and of the padding as one more."""
    ends = [*row.starts, row.length] if row.length == total else [*row.starts, row.length, total]
    return np.diff(ends)


def _labels(row: Packed, lengths: np.ndarray) -> np.ndarray:
    """The next token where it is a target. The first of a segment never is: nothing stands before it."""
    target = row.loss_mask.astype(bool)
    target[np.cumsum(lengths) - lengths] = False
    labels = np.full(len(target), IGNORED, dtype=np.int64)
    labels[:-1] = np.where(target[1:], row.input_ids[1:].astype(np.int64), IGNORED)
    return labels


def _to(array: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
