"""Losses of tokens, without ever holding the logits of all of them: a vocabulary of 262k makes a gigabyte of
a thousand tokens. The output head is applied to some tokens at a time, and again for the gradients.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.sizes import LOGITS

IGNORED = -100

_METHOD = "ixt_token_losses"


class TokenLosses(NamedTuple):
    """What a model makes of a batch."""

    nats: torch.Tensor
    """[tokens]: negative log-likelihood of each label, 0 where it is IGNORED."""
    best: torch.Tensor
    """[tokens]: the most likely id at each place that has a label."""
    router: torch.Tensor | None
    """What the config adds for experts that are used unevenly, weighed; None for other models."""


def token_losses(model: Any, inputs: Mapping[str, Any], labels: torch.Tensor) -> TokenLosses:
    """Losses of `labels` [tokens], which stand for the rows of `inputs` end to end."""
    method: Callable[..., TokenLosses] = getattr(model, _METHOD, None) or partial(_token_losses, model)
    return method(inputs, labels)


def announce(model: Any) -> None:
    """Let a sharded model gather its outermost weights for `token_losses` too."""
    setattr(model, _METHOD, partial(_token_losses, model))
    register_fsdp_forward_method(model, _METHOD)


def check_head(model: Any) -> None:
    """Raises StepError(CONFIG) for a model whose logits are made in a way that is not known here."""
    device = next(model.parameters()).device
    ids = torch.arange(4, device=device)[None]
    training = model.training
    model.eval()
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits[0].float()
        found = token_losses(model, {"input_ids": ids}, ids[0]).nats
    model.train(training)
    _compare(model, found, own, ids[0])


def check_head_dry(model: Any) -> None:
    """`check_head` of a model on the meta device: hidden states and output layer are stood in for by small
    ones that have memory, so that what the model does around the layer is seen."""
    ids, config = torch.arange(4)[None], model.config.get_text_config()
    output = model.get_output_embeddings()
    hidden = torch.linspace(-2, 2, 4 * config.hidden_size, dtype=torch.float32).view(1, 4, -1)
    ramp = torch.linspace(-5, 20, config.vocab_size)

    def read(_: Any, __: Any, made: Any) -> None:
        made.last_hidden_state = hidden

    def apply(states: torch.Tensor) -> torch.Tensor:
        return states.float().mean(-1, keepdim=True) * ramp

    # Of OPT the decoder within is called.
    readers = [each for each in model.base_model.modules() if isinstance(each, PreTrainedModel)]
    hooks, forward = [each.register_forward_hook(read) for each in readers], output.forward
    output.forward = apply
    try:
        with torch.no_grad():
            own = model(input_ids=ids.to("meta"), use_cache=False).logits[0].float()
            found, _ = _head(output, config, hidden[0], ids[0])
        _compare(model, found, own, ids[0])
    except (RuntimeError, NotImplementedError):
        # More layers than one, which have no memory here.
        raise _unknown_head(model) from None
    finally:
        for hook in hooks:
            hook.remove()
        output.forward = forward


def _compare(model: Any, found: torch.Tensor, own: torch.Tensor, labels: torch.Tensor) -> None:
    """Raise StepError unless these losses are those of the model's own logits [tokens, vocabulary]."""
    expected = functional.cross_entropy(own, labels, reduction="none")
    if not torch.allclose(found, expected, rtol=1e-2, atol=1e-3):
        raise _unknown_head(model)


def _unknown_head(model: Any) -> StepError:
    return StepError(
        Exit.CONFIG,
        f"{model.config.model_type} makes its logits in a way that ixt does not know",
        "take a model whose logits are those of one output layer: Llama, Qwen, Gemma, Granite, ...",
    )


def _token_losses(model: Any, inputs: Mapping[str, Any], labels: torch.Tensor) -> TokenLosses:
    config = model.config.get_text_config()
    routed = bool(getattr(config, "output_router_logits", False))
    more = {"output_router_logits": True} if routed else {}
    read = model.base_model(**inputs, **more, use_cache=False)
    wanted = labels != IGNORED
    hidden, asked = read.last_hidden_state.flatten(0, 1)[wanted], labels[wanted]
    size = max(1, LOGITS // config.vocab_size)
    head = partial(_head, model.get_output_embeddings(), config)
    if len(asked) <= size:
        parts = [head(hidden, asked)]
    else:
        parts = [
            checkpoint(head, some, ids, use_reentrant=False)
            for some, ids in zip(torch.split(hidden, size), torch.split(asked, size), strict=True)
        ]
    nats, best = (
        torch.zeros_like(labels, dtype=values[0].dtype).masked_scatter(wanted, torch.cat(values))
        for values in zip(*parts, strict=True)
    )
    return TokenLosses(nats, best, _router_loss(model, read.router_logits, inputs) if routed else None)


def _head(
    output: torch.nn.Module, config: Any, hidden: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and most likely id of each token, from its hidden state [tokens, width]."""
    logits: torch.Tensor = output(hidden)
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        logits = logits / divisor
    if factor := getattr(config, "logit_scale", None):  # Cohere
        logits = logits * factor
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return functional.cross_entropy(logits.float(), labels, reduction="none"), logits.detach().argmax(-1)


def _router_loss(model: Any, router_logits: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """The family's own load-balancing loss, over padding too as in transformers without a mask, times the
    config's coefficient."""
    balance = sys.modules[type(model).__module__].load_balancing_loss_func
    loss: torch.Tensor = balance(router_logits, model.num_experts, model.num_experts_per_tok)
    return loss.to(inputs["input_ids"].device) * float(model.router_aux_loss_coef)
