"""Linear layers in float32 on a processor, by oneDNN instead of MKL.

torch leaves them to MKL, which uses AVX-512 on Intel's processors only; oneDNN, which torch carries for
convolutions and bfloat16, uses it on all. Measured on an AMD EPYC with one thread: 160-250 GFLOP/s instead of
110. Both round in float32 throughout.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch


def use_onednn(model: torch.nn.Module) -> None:
    """Let the linear layers of a model on the CPU use oneDNN, where that is faster."""
    if _pays():
        for module in model.modules():
            if type(module) is torch.nn.Linear:
                module.forward = partial(_linear, module)  # type: ignore[method-assign]


def _pays() -> bool:
    avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch._C._has_mkldnn
    return avx512 and "GenuineIntel" not in Path("/proc/cpuinfo").read_text()


def _linear(module: torch.nn.Linear, values: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = _Product.apply(values, module.weight)  # type: ignore[no-untyped-call]
    return found if module.bias is None else found + module.bias


class _Product(torch.autograd.Function):
    """values @ weight.T"""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(values, weight)
        return _like(_product(_rows(values), weight), values)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, weight = context.saved_tensors
        rows = _rows(gradient)
        # The gradient of the weight is found transposed, which is faster.
        return _like(_product(rows, weight.t()), values), _product(_rows(values).t(), rows.t()).t()


def _rows(values: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, values.shape[-1])


def _like(rows: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Rows in the shape of values. What a sharded module returns must not be a view, as torch sees it."""
    found: torch.Tensor = torch.ops.aten._unsafe_view(rows, [*values.shape[:-1], rows.shape[-1]])
    return found


@torch.library.custom_op("ixt::product", mutates_args=())
def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right.T. An operator of our own: torch's compiler takes its own for constant weights only."""
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return found


PRODUCT = torch.ops.ixt.product.default
"""The operator, as torch's dispatcher knows it."""


@_product.register_fake
def _(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left.new_empty(left.shape[0], right.shape[0])
