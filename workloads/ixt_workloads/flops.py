"""What training and judging cost in floating-point operations: one formula for plan, report and metrics.

N counts the parameters that take part in matrix products: with the output head, without the embedding
lookup, and for mixtures of experts only those that one token passes. Attention adds a term that grows
with the context; it is counted in full (PaLM's convention, arXiv 2204.02311), not halved for causality.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ixt_workloads.contract.exits import Exit, StepError

_PLAIN_MLP = {"gpt2", "gpt_neox", "opt", "phi", "bloom", "falcon", "gptj", "starcoder2"}
"""Families whose feed-forward block has two matrices; the others gate it and have three."""


@dataclass(frozen=True)
class ModelShape:
    """What the cost of a model depends on."""

    parameters: int
    """Matmul parameters that are active for one token, with the output head, without the embedding lookup."""
    layers: int
    width: int
    """Attention heads times their size: what scores and values are computed over."""
    vocabulary: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Shape of a decoder described by the object in a transformers `config.json`.

        Raises StepError for a config that does not say how large the model is.
        """
        text = _Fields({**config, **(config.get("text_config") or {})})
        hidden = text.need("hidden_size", "n_embd")
        layers = text.need("num_hidden_layers", "n_layer")
        vocabulary = text.need("vocab_size")
        width, attention = _attention(text, hidden)
        feed_forward = sum(_feed_forward(text, hidden, layer) for layer in range(layers))
        return cls(layers * attention + feed_forward + hidden * vocabulary, layers, width, vocabulary)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Shape of the model whose `config.json` lies in a folder. Raises StepError without a usable one."""
        path = Path(folder) / "config.json"
        try:
            config = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise StepError(Exit.NO_INPUT, f"{path} is not there", "name a folder with a model") from None
        except ValueError as error:
            raise StepError(Exit.DATA, f"{path} is not JSON: {error}") from None
        return cls.from_config(config)


def training_flops(shape: ModelShape, tokens: float, context: float) -> int:
    """FLOPs of forward and backward over `tokens` tokens, each attending over `context` tokens."""
    return round((6 * shape.parameters + 12 * shape.layers * shape.width * context) * tokens)


def judging_flops(shape: ModelShape, tokens: float, context: float) -> int:
    """FLOPs of a forward pass alone: a judge's prompt (without cached tokens), reasoning and feedback."""
    return round((2 * shape.parameters + 4 * shape.layers * shape.width * context) * tokens)


class _Fields:
    """A config's numbers under the several names that families give them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.model_type = str(config.get("model_type", ""))

    def get(self, *names: str, default: int = 0) -> int:
        values = (self._config.get(name) for name in names)
        return next((value for value in values if isinstance(value, int)), default)

    def need(self, *names: str) -> int:
        value = self.get(*names)
        if value <= 0:
            raise StepError(
                Exit.CONFIG,
                f"the model's config.json has no {names[0]}",
                "only decoder-only language models can be trained and counted",
            )
        return value

    def layers(self, name: str) -> set[int]:
        return set(self._config.get(name) or ())


def _attention(text: _Fields, hidden: int) -> tuple[int, int]:
    """Attention width and the parameters of one layer's projections."""
    heads = text.need("num_attention_heads", "n_head")
    rank = text.get("kv_lora_rank")
    if rank:  # multi-head latent attention (DeepSeek-V2 and later)
        value = text.need("v_head_dim")
        nope, rope = text.need("qk_nope_head_dim"), text.need("qk_rope_head_dim")
        query_rank = text.get("q_lora_rank")
        query = (
            query_rank * (hidden + heads * (nope + rope)) if query_rank else hidden * heads * (nope + rope)
        )
        key_value = hidden * (rank + rope) + rank * heads * (nope + value)
        return heads * (nope + rope + value) // 2, query + key_value + heads * value * hidden
    size = text.get("head_dim", default=hidden // heads)
    pairs = text.get("num_key_value_heads", default=heads)
    return heads * size, hidden * size * 2 * (heads + pairs)


def _feed_forward(text: _Fields, hidden: int, layer: int) -> int:
    """Parameters of one layer's feed-forward block that one token passes."""
    matrices = 2 if text.model_type in _PLAIN_MLP else 3
    dense = text.get("intermediate_size", "n_inner", default=4 * hidden)
    experts = text.get("num_experts", "num_local_experts", "n_routed_experts")
    step = text.get("decoder_sparse_step", "moe_layer_freq", default=1)
    if (
        experts == 0
        or layer < text.get("first_k_dense_replace")
        or layer in text.layers("mlp_only_layers")
        or (step > 0 and (layer + 1) % step != 0)
    ):
        return matrices * hidden * dense
    one = text.get("moe_intermediate_size", default=dense)
    shared = text.get("shared_expert_intermediate_size", default=one * text.get("n_shared_experts"))
    active = text.need("num_experts_per_tok", "num_experts_per_token")
    return matrices * hidden * (active * one + shared) + hidden * experts
