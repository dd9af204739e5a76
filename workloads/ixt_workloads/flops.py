"""What training and judging cost in floating-point operations: one formula for plan, report and metrics.

N counts the parameters that take part in matrix products: with the output head, without the embedding
lookup, and for mixtures of experts only those that one token passes. Attention adds a term that grows
with the context; it is counted in full (PaLM's convention, arXiv 2204.02311), not halved for causality.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

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
        text = Fields(config)
        hidden = text.need("hidden_size", "n_embd")
        layers = text.need("num_hidden_layers", "n_layer")
        vocabulary = text.need("vocab_size")
        width, attention = attention_of(text, hidden)
        feed_forward = sum(feed_forward_of(text, hidden, layer).active for layer in range(layers))
        return cls(layers * attention + feed_forward + hidden * vocabulary, layers, width, vocabulary)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Shape of the model whose `config.json` lies in a folder. Raises StepError without a usable one."""
        return cls.from_config(config_in(Path(folder)))


def config_in(folder: Path) -> dict[str, Any]:
    """The object in the `config.json` of a folder, with its family's defaults where it leaves out sizes, as
    Gemma 3's do. Raises StepError without a usable one."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StepError(Exit.NO_INPUT, f"{path} is not there", "name a folder with a model") from None
    except ValueError as error:
        raise StepError(Exit.DATA, f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise StepError(Exit.DATA, f"{path} is no JSON object", "copy it again")
    try:
        ModelShape.from_config(config)
    except StepError as lacking:
        from transformers import AutoConfig

        try:
            return dict(AutoConfig.from_pretrained(folder, local_files_only=True).to_dict())
        except Exception:  # noqa: BLE001 - families raise what they like; what was lacking says more
            raise lacking from None
    return config


def training_flops(shape: ModelShape, tokens: float, context: float) -> int:
    """FLOPs of forward and backward over `tokens` tokens, each attending over `context` tokens."""
    return round((6 * shape.parameters + 12 * shape.layers * shape.width * context) * tokens)


def judging_flops(shape: ModelShape, tokens: float, context: float) -> int:
    """FLOPs of a forward pass alone: of a judge's prompt (without cached tokens), reasoning and feedback, or
    of a prompt and a policy's samples."""
    return round((2 * shape.parameters + 4 * shape.layers * shape.width * context) * tokens)


def flops_by_purpose(kind: str, summary: Mapping[str, Any]) -> dict[str, int]:
    """What an artifact of a kind of step cost, as its summary says; nothing where it says nothing."""
    fields = {"Annotate": {"annotation": "flops"}, "Evaluate": {"evaluation": "flops"}}
    fields["Generate"] = {"generation": "flops", "evaluation": "evaluationFlops"}
    fields["Train"] = {"training": "flops", "evaluation": "evaluationFlops"}
    found = {purpose: summary.get(field) for purpose, field in fields.get(kind, {}).items()}
    return {purpose: int(flops) for purpose, flops in found.items() if flops}


class Fields:
    """A decoder's numbers in a config, under the several names that families give them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = {**config, **(config.get("text_config") or {})}
        self.model_type = str(self._config.get("model_type", ""))

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

    def says(self, name: str) -> bool | None:
        """A setting that is true or false; None where the config leaves it to the family."""
        value = self._config.get(name)
        return None if value is None else bool(value)

    def layers(self, name: str) -> set[int]:
        return set(self._config.get(name) or ())


def attention_of(text: Fields, hidden: int) -> tuple[int, int]:
    """Attention width and the parameters of one layer's projections."""
    heads = text.need("num_attention_heads", "n_head")
    rank = text.get("kv_lora_rank")
    # Multi-head latent attention (DeepSeek-V2 and later).
    if rank:
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


class FeedForward(NamedTuple):
    """One layer's feed-forward block."""

    active: int
    """Parameters that one token passes."""
    all: int
    """With those of all experts."""
    inner: int
    """Numbers between its matrices, of one token."""
    gated: bool


def feed_forward_of(text: Fields, hidden: int, layer: int) -> FeedForward:
    """The feed-forward block of a layer."""
    gated = text.model_type not in _PLAIN_MLP
    matrices = 3 if gated else 2
    dense = text.get("intermediate_size", "n_inner", default=4 * hidden)
    experts = text.get("num_experts", "num_local_experts", "n_routed_experts")
    step = text.get("decoder_sparse_step", "moe_layer_freq", default=1)
    if (
        experts == 0
        or layer < text.get("first_k_dense_replace")
        or layer in text.layers("mlp_only_layers")
        or (step > 0 and (layer + 1) % step != 0)
    ):
        return FeedForward(matrices * hidden * dense, matrices * hidden * dense, dense, gated)
    one = text.get("moe_intermediate_size", default=dense)
    shared = text.get("shared_expert_intermediate_size", default=one * text.get("n_shared_experts"))
    inner = text.need("num_experts_per_tok", "num_experts_per_token") * one + shared
    router = hidden * experts
    return FeedForward(
        matrices * hidden * inner + router,
        matrices * hidden * (experts * one + shared) + router,
        inner,
        gated,
    )
