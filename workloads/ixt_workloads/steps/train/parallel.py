"""How a model is spread over ranks: replicated with one all-reduce a step, or sharded with FSDP2."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from ixt_workloads.contract.settings import (
    ActivationCheckpointing,
    Compile,
    MomentsPrecision,
    Precision,
    Train,
)
from ixt_workloads.flops import training_flops
from ixt_workloads.losses import announce
from ixt_workloads.sizes import Decoder, fit
from ixt_workloads.steps.train.memory import NarrowAdamW
from ixt_workloads.steps.train.ranks import World, memory_of_rank

_RATE = {"cpu": 5e10, "cuda": 2e14}
"""FLOP/s of a rank, roughly: only to tell a long training from a short one."""

_COMPILE_PAYS_SECONDS = {"cpu": 1200.0, "cuda": 300.0}
"""Length of a training from which the 3-25 s (CPU) or more that compilation takes are won back."""


@dataclass(frozen=True)
class Choices:
    """How a training runs: what the settings leave open, and sizes worked out from them."""

    sharded: bool
    compiled: bool
    recomputed: ActivationCheckpointing
    """What of a forward pass is computed again; never Auto."""
    sequences: int
    """Sequences in one optimizer step, over all ranks."""
    micro_batch: int
    """Sequences in one forward pass of one rank."""
    passes: int
    """Forward passes of every rank in one optimizer step."""
    steps: int
    """Optimizer steps in all."""


def choose(train: Train, decoder: Decoder, sequence_length: int, world: World) -> Choices:
    """The choices of a training job. A pure function of its arguments and the machine's size. Raises
    StepError(OUT_OF_MEMORY) for a model that does not fit."""
    device = world.device.type
    found = fit(
        train, decoder, sequence_length,
        ranks=world.size, gpu=device == "cuda", available=memory_of_rank(world),
    )  # fmt: skip
    sequences, steps = train.batch_sequences(sequence_length), train.steps(sequence_length)
    own = math.ceil(sequences / world.size)
    passes = math.ceil(own / found.rows)

    flops = training_flops(decoder.shape, steps * sequences * sequence_length, sequence_length / 2)
    seconds = flops / (_RATE[device] * world.size)
    compiled = train.compile is Compile.ENABLED or (
        train.compile is Compile.AUTO and seconds > _COMPILE_PAYS_SECONDS[device]
    )
    return Choices(
        found.training.sharded, compiled, found.mode, sequences, math.ceil(own / passes), passes, steps
    )


def shard(model: Any, world: World, precision: Precision) -> None:
    """FSDP2: every decoder layer, and what is left, sharded over all ranks; float32 masters and sums."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    bf16 = precision is Precision.BF16
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32 if bf16 else None
    )
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    announce(model)


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """The blocks of a decoder."""
    return list(model.get_decoder().layers)


def flat_gradients(model: torch.nn.Module) -> torch.Tensor:
    """One tensor that all gradients are views of, so that they are reduced, scaled and cleared as one.

    On gloo this beats DistributedDataParallel's buckets: there is no idle processor to overlap with.
    """
    parameters = [value for value in model.parameters() if value.requires_grad]
    flat = torch.zeros(
        sum(value.numel() for value in parameters), dtype=torch.float32, device=parameters[0].device
    )
    for value, part in zip(parameters, torch.split(flat, [v.numel() for v in parameters]), strict=True):
        value.grad = part.view_as(value)
    return flat


def clip_and_scale(gradients: list[torch.Tensor], scale: float, largest: float) -> float:
    """Scale gradients and clip their norm to `largest` (0: not at all); returns the norm before clipping."""
    norm = torch.nn.utils.get_total_norm(gradients)
    value = float(norm.full_tensor() if isinstance(norm, DTensor) else norm) * scale
    if math.isfinite(value):
        factor = min(1.0, largest / (value + 1e-6)) if largest else 1.0
        torch._foreach_mul_(gradients, scale * factor)
    return value


def adamw(model: torch.nn.Module, train: Train) -> torch.optim.AdamW:
    """Fused AdamW, decay on matrices only, with its state made at once so that a checkpoint fills it."""
    settings = train.optimizer
    narrow = settings.moments_precision is MomentsPrecision.BF16
    kind, dtype = (NarrowAdamW, torch.bfloat16) if narrow else (torch.optim.AdamW, torch.float32)
    values = [value for value in model.parameters() if value.requires_grad]
    optimizer = kind(
        [
            {"params": [v for v in values if v.ndim >= 2], "weight_decay": float(settings.weight_decay)},
            {"params": [v for v in values if v.ndim < 2], "weight_decay": 0.0},
        ],
        lr=float(settings.learning_rate),
        betas=(float(settings.beta1), float(settings.beta2)),
        eps=float(settings.epsilon),
        fused=True,
    )
    for value in values:
        optimizer.state[value] = {
            "step": torch.zeros((), dtype=torch.float32, device=value.device),
            "exp_avg": torch.zeros_like(value, dtype=dtype),
            "exp_avg_sq": torch.zeros_like(value, dtype=dtype),
        }
    return optimizer


def full_state(model: Any) -> dict[str, torch.Tensor]:
    """All weights in full on the CPU of rank 0, empty elsewhere; tied ones once. Every rank calls it."""
    main = dist.get_rank() == 0
    every = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    again = every - {name for name, _ in model.named_parameters()}
    state = {}
    for name, value in model.state_dict().items():
        if name in again:
            continue
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if main:
            state[name] = whole.detach().cpu()
    return state
