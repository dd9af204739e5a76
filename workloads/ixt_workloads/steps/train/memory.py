"""What saves a rank's memory: layers that are computed again, weights that no rank ever has whole, moments in
bfloat16."""

from functools import partial
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from ixt_workloads.contract.settings import ActivationCheckpointing
from ixt_workloads.steps.train import onednn

SLICE = 2**24
"""Numbers whose moments are in float32 at once."""


def recompute(layers: list[torch.nn.Module], mode: ActivationCheckpointing) -> None:
    """Let layers keep for their gradients only what `mode` says, and compute the rest again."""
    if mode is ActivationCheckpointing.NONE:
        return
    how: dict[str, Any] = {"use_reentrant": False}
    if mode is ActivationCheckpointing.SELECTIVE:
        how["context_fn"] = partial(create_selective_checkpoint_contexts, _dear())
    for layer in layers:
        # Within the hooks of sharding, which gather a layer's weights once more for its gradients anyway.
        layer.forward = partial(checkpoint, layer.forward, **how)


def _dear() -> list[Any]:
    """Operations whose results are kept: products with weights, and attention that never holds its scores.
    Products of two activations are not, for those of attention are as large as a document squared."""
    aten = torch.ops.aten
    kept = [
        aten.mm.default,
        aten.addmm.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        onednn.PRODUCT,
    ]
    if torch.cuda.is_available():
        from torch.nn.attention import varlen  # noqa: F401 - registers the operator

        kept.append(torch.ops.torch_attn._varlen_attn.default)
    return kept


@torch.no_grad()
def fill(model: torch.nn.Module, whole: torch.nn.Module | None, device: torch.device) -> None:
    """Give a sharded model on the meta device its memory, and the weights of `whole`, a model on the CPU of
    rank 0 and None elsewhere. One tensor at a time is whole on other ranks too. Every rank calls it."""
    weights = dict(whole.named_parameters()) if whole else {}
    made: dict[int, torch.nn.Parameter] = {}
    for name, value in model.named_parameters():
        assert isinstance(value, DTensor)
        given = (
            weights[name].to(device) if whole else torch.empty(value.shape, dtype=value.dtype, device=device)
        )
        part = distribute_tensor(given, value.device_mesh, value.placements)
        made[id(value)] = torch.nn.Parameter(part, requires_grad=value.requires_grad)
    buffers = dict(whole.named_buffers(remove_duplicate=False)) if whole else {}
    for prefix, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                # Tied weights are one parameter in several modules.
                module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                full = f"{prefix}.{name}" if prefix else name
                given = buffers[full].to(device) if whole else torch.empty_like(buffer, device=device)
                torch.distributed.broadcast(given, 0)
                module._buffers[name] = given


class NarrowAdamW(torch.optim.AdamW):
    """Fused AdamW with moments in bfloat16, which a step computes in float32, some numbers at a time."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for value in group["params"]:
                if value.grad is None:
                    continue
                state = self.state[value]
                state["step"] += 1
                given = (value, value.grad, state["exp_avg"], state["exp_avg_sq"])
                flat = [torch.split(_local(each).view(-1), SLICE) for each in given]
                for weight, gradient, *narrow in zip(*flat, strict=True):
                    if not weight.numel():
                        continue  # of a small tensor, a rank may have no part
                    wide = [moment.float() for moment in narrow]
                    torch._fused_adamw_(
                        [weight], [gradient], [wide[0]], [wide[1]], [], [state["step"]],
                        lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"],
                        eps=group["eps"], amsgrad=False, maximize=False,
                    )  # fmt: skip
                    for moment, new in zip(narrow, wide, strict=True):
                        moment.copy_(new)


def _local(value: torch.Tensor) -> torch.Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
