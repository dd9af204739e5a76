"""The memory that training a model takes of a rank, by arithmetic on its config.json: for the plan of a run,
and for what a training chooses by itself. Nothing here needs torch.

What is kept for the gradients follows from the operations of a layer (as in arXiv 2205.05198, for gated
layers and RMSNorm). `benchmarks/training_memory.py` compares it with what trainings take.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import (
    ActivationCheckpointing,
    Export,
    MomentsPrecision,
    Parallelism,
    Precision,
    Train,
)
from ixt_workloads.flops import Fields, ModelShape, attention_of, feed_forward_of

LOGITS = 2**26
"""Logits that a loss holds at once (losses.py): 256 MB in float32, of which a backward pass needs three."""

_MOST_TOKENS = {False: 8192, True: 65_536}
"""Tokens in one forward pass above which throughput no longer grows, on a processor and on a GPU."""

_GOOD_TOKENS = {False: 1024, True: 8192}
"""Tokens in one forward pass below which more of them gain more than computing activations again costs."""

_USABLE = {False: 0.65, True: 0.9}
"""Share of the memory that is planned with, on a processor and on a GPU. On a processor malloc keeps up to a
third of what it was given back (blocks below 32 MB, as `mallopt(3)` says of M_MMAP_THRESHOLD)."""

_SURE = 0.85
"""An estimate is at most so much too high: beyond the memory even so, a training is refused."""

_TIED = {
    "bloom", "cohere", "cohere2", "ernie4_5", "ernie4_5_moe", "falcon", "gemma", "gemma2", "gemma3",
    "gemma3_text", "gemma3n", "gemma3n_text", "gpt2", "gpt_bigcode", "gpt_neo", "mpt", "opt", "smollm3",
    "starcoder2",
}  # fmt: skip
"""Families that use the embedding as output head where the config does not say."""

_FOUR_NORMS = {"gemma2", "gemma3", "gemma3_text", "glm4"}
"""Families with a norm before and after both blocks of a layer; the others have two a layer."""

_QUERY_NORMS = {"qwen3", "qwen3_moe", "gemma3", "gemma3_text", "olmo2", "olmo3", "smollm3"}
"""Families that normalise queries and keys."""


@dataclass(frozen=True)
class Decoder:
    """The sizes of a decoder."""

    shape: ModelShape
    parameters: int
    """All, those of experts that a token does not pass too."""
    largest_layer: int
    """Parameters of the largest layer."""
    embedding: int
    """Parameters of the embedding."""
    tied: bool
    """The output head is the embedding."""
    hidden: int
    heads: int
    key_width: int
    """Heads of keys times their size."""
    inner: int
    """Numbers between the matrices of the widest feed-forward block, of one token."""
    gated: bool
    norms: int
    query_norms: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Sizes of a decoder described by the object in a transformers `config.json`. Raises StepError for a
        config that does not say them."""
        shape, text = ModelShape.from_config(config), Fields(config)
        hidden, kind = text.need("hidden_size", "n_embd"), text.model_type
        heads = text.need("num_attention_heads", "n_head")
        _, attention = attention_of(text, hidden)
        blocks = [feed_forward_of(text, hidden, layer) for layer in range(shape.layers)]
        norms = 4 if kind in _FOUR_NORMS else 2
        embedding = hidden * shape.vocabulary
        said = text.says("tie_word_embeddings")
        tied = kind in _TIED if said is None else said
        layers = [attention + block.all + norms * hidden for block in blocks]
        pairs = heads if text.get("kv_lora_rank") else text.get("num_key_value_heads", default=heads)
        return cls(
            shape=shape,
            parameters=sum(layers) + embedding * (1 if tied else 2) + hidden,
            largest_layer=max(layers),
            embedding=embedding,
            tied=tied,
            hidden=hidden,
            heads=heads,
            key_width=shape.width * pairs // heads,
            inner=max(block.inner for block in blocks),
            gated=any(block.gated for block in blocks),
            norms=norms,
            query_norms=kind in _QUERY_NORMS,
        )


class Training(NamedTuple):
    """What decides how much memory a training takes of a rank."""

    precision: Precision
    moments: MomentsPrecision
    ranks: int
    sharded: bool
    gpu: bool
    best: bool = False
    """The weights of the best evaluation are kept too, in the precision of the export."""

    @property
    def best_bytes(self) -> int:
        """Of a parameter, for those."""
        return (2 if self.precision is Precision.BF16 else 4) if self.best else 0


class Memory(NamedTuple):
    """Bytes of a rank's memory, by what they hold at the fullest moment."""

    weights: int
    """In float32, with the copies in bfloat16 that are computed with, and those of the best evaluation."""
    gradients: int
    moments: int
    activations: int
    logits: int
    """None where the fullest moment is that of a layer's gradients, and not that of the loss."""

    @property
    def total(self) -> int:
        """All together."""
        return sum(self)

    def __str__(self) -> str:
        unit, name = (1e9, "GB") if self.total >= 1e9 else (1e6, "MB")
        parts = (f"{kind} {size / unit:.1f}" for kind, size in zip(self._fields, self, strict=True))
        return f"{self.total / unit:.1f} {name} ({', '.join(parts)})"


RECOMPUTING = (
    ActivationCheckpointing.NONE,
    ActivationCheckpointing.SELECTIVE,
    ActivationCheckpointing.FULL,
)
"""From the most memory to the least."""


def memory_of(
    decoder: Decoder, training: Training, mode: ActivationCheckpointing, rows: int, length: int
) -> Memory:
    """Memory of a rank that passes `rows` sequences of `length` tokens at once."""
    tokens = rows * length
    kept, again = _activations(decoder, training, mode, length)
    logits, last = _logits(decoder, training, tokens), tokens * again
    # The fullest moment is that of the loss or that of the last layer's gradients: logits are gone by then.
    moment = (tokens * kept, logits) if logits > last else (tokens * kept + last, 0)
    return Memory(*state_of(decoder, training), *map(round, moment))


def state_of(decoder: Decoder, training: Training) -> tuple[int, int, int]:
    """Bytes of weights, gradients and moments on a rank, whatever it passes at once."""
    bf16 = training.precision is Precision.BF16
    share = training.ranks if training.sharded else 1
    outside = decoder.embedding * (1 if decoder.tied else 2)
    weights, gradients = 4 * decoder.parameters / share, 4 * decoder.parameters / share
    if training.sharded and training.ranks > 1:
        # What is gathered while it is used: a layer and the next one, and what lies outside of layers.
        gathered = outside + 2 * decoder.largest_layer
        weights += gathered * (2 if bf16 else 4)
        gradients += outside * (2 if bf16 else 4)
    elif bf16:
        weights += 2 * (decoder.parameters - (0 if decoder.tied else decoder.embedding))
    weights += training.best_bytes * decoder.parameters / share
    # The embedding's and the head's gradients are made whole before they are added.
    gradients += decoder.embedding * 4
    moments = (4 if training.moments is MomentsPrecision.BF16 else 8) * decoder.parameters / share
    return round(weights), round(gradients), round(moments)


class Fit(NamedTuple):
    """How a training fits onto its ranks."""

    training: Training
    mode: ActivationCheckpointing
    """What is computed again; never Auto."""
    rows: int
    """Sequences in one forward pass of a rank."""
    memory: Memory


def fit(
    train: Train, decoder: Decoder, length: int, *, ranks: int, gpu: bool, available: float = math.inf
) -> Fit:
    """What a training chooses that leaves it open, with so many bytes available on each of its ranks. Raises
    StepError(OUT_OF_MEMORY) for a model that does not fit."""
    best = train.export is Export.BEST
    given = Training(train.precision, train.optimizer.moments_precision, ranks, False, gpu, best)
    full = train.parallelism is Parallelism.FULLY_SHARD
    if train.parallelism is Parallelism.AUTO and ranks > 1:
        full = sum(state_of(decoder, given)) > 0.6 * available
    given = given._replace(sharded=full)
    # On a processor a checkpoint's copy lies beside what it is of.
    usable = _USABLE[gpu] * available - (0 if gpu else saved_bytes(decoder, given))
    own = math.ceil(train.batch_sequences(length) / ranks)
    most = train.micro_batch_sequences or max(1, min(own, _MOST_TOKENS[gpu] // length))
    wanted = train.micro_batch_sequences or min(most, math.ceil(_GOOD_TOKENS[gpu] / length))
    asked = train.activation_checkpointing
    modes = RECOMPUTING if asked is ActivationCheckpointing.AUTO else (asked,)
    mode, rows = modes[-1], most
    for mode in modes:
        rows = most
        while rows > 1 and memory_of(decoder, given, mode, rows, length).total > usable:
            rows -= 1
        if rows >= wanted and memory_of(decoder, given, mode, rows, length).total <= usable:
            break
    rows = train.micro_batch_sequences or rows
    memory = memory_of(decoder, given, mode, rows, length)
    if _SURE * memory.total > available:
        raise StepError(
            Exit.OUT_OF_MEMORY,
            f"{decoder.parameters:,} parameters do not fit: a rank would need {memory}, and has "
            f"{available / 1e9:.1f} GB",
            _hint_to_fit(given, rows),
        )
    return Fit(given, mode, rows, memory)


def _hint_to_fit(training: Training, rows: int) -> str:
    if training.ranks > 1 and not training.sharded:
        return "set train.parallelism: FullyShard"
    more = ["train on more ranks (train.numNodes, train.numProcPerNode)"]
    if training.moments is MomentsPrecision.FP32:
        more.append("set train.optimizer.momentsPrecision: BF16")
    more.append("lower train.microBatchSequences" if rows > 1 else "shorten prepare.sequenceLength")
    return ", or ".join(more)


def saved_bytes(decoder: Decoder, training: Training) -> int:
    """Bytes of the copy, in the machine's memory, that a checkpoint is written from beside the training: the
    rank's weights, those of the best evaluation too, and moments."""
    share = training.ranks if training.sharded else 1
    moments = 4 if training.moments is MomentsPrecision.BF16 else 8
    return decoder.parameters * (4 + moments + training.best_bytes) // share


def _activations(
    decoder: Decoder, training: Training, mode: ActivationCheckpointing, length: int
) -> tuple[float, float]:
    """Bytes a token that are kept for the gradients, and those that a layer needs more while its own are
    made."""
    whole = _of_layer(decoder, training, length)
    number = 2 if training.precision is Precision.BF16 else 4
    # The residual stays float32 under autocast; sharded layers are bfloat16 throughout.
    entry = decoder.hidden * (2 if training.sharded and number == 2 else 4)
    width, keys, inner = decoder.shape.width, decoder.key_width, decoder.inner
    products = number * (2 * decoder.hidden + 2 * width + 2 * keys + (2 if decoder.gated else 1) * inner)
    kept = {
        ActivationCheckpointing.NONE: whole,
        ActivationCheckpointing.SELECTIVE: min(whole, entry + products),
        ActivationCheckpointing.FULL: entry,
    }[mode]
    # While a layer's gradients are made, those of its widest parts are there too.
    at_once = number * (3 * inner + 3 * decoder.hidden)
    return decoder.shape.layers * kept + 2 * entry, whole - kept + at_once


def _of_layer(decoder: Decoder, training: Training, length: int) -> float:
    """Bytes a token that a layer keeps when nothing of it is computed again."""
    hidden, width, inner = decoder.hidden, decoder.shape.width, decoder.inner
    bf16 = training.precision is Precision.BF16
    number = 2 if bf16 else 4
    # On a GPU, keys and values of a group are not repeated for each of its queries.
    keys = decoder.key_width if training.gpu and bf16 else width
    # A norm keeps its input and what it has normalised; and the next products keep its result, each product
    # its own copy under autocast.
    if bf16 and training.sharded:
        norms = decoder.norms * (4 + 2 + 2) * hidden
    elif bf16:
        norms = decoder.norms * (4 + 4) * hidden + (3 + (2 if decoder.gated else 1)) * 2 * hidden
    else:
        norms = decoder.norms * 3 * 4 * hidden
    attention = number * (3 * width + 2 * keys)
    if decoder.query_norms:
        attention += 2 * number * (width + decoder.key_width)
    if bf16 and not training.gpu:
        # Scores are kept whole (attention.py); documents are taken for half as long as the sequence.
        attention += number * decoder.heads * min(length, 1024) // 2
    return norms + attention + number * (4 if decoder.gated else 2) * inner


def _logits(decoder: Decoder, training: Training, tokens: int) -> float:
    """Bytes of logits, of their softmax and of their gradient: of some tokens at a time (losses.py)."""
    held = min(tokens * decoder.shape.vocabulary, max(LOGITS, decoder.shape.vocabulary))
    return held * (4 + 4 + 4 + (2 if training.precision is Precision.BF16 else 0))
