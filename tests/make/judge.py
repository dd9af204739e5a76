"""Judges for tests: a model folder for the real engine, and a double that fails on demand.

The model is a Markov chain written into a Llama's weights by hand: attention and feed-forward give nothing,
the embedding is one-hot, so the head is a table of what follows which token. It thinks a few words, answers
a few words and ends, which random weights do not. The double stands for what a real engine cannot be made to
do when a test asks for it: answer garbage or 500, hang, stay unready, die in the middle.
"""

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from aiohttp import web
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

THOUGHTS = ("weigh", "compare", "doubt", "recall")
WORDS = ("Clear", "sound", "vague", "shallow", "thorough", "correct")
SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|judge|>")
TEMPLATE = (
    "{% for message in messages %}<|user|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|judge|>{% endif %}"
)
HEAD = 32


def judge_folder(folder: Path, context: int = 2048) -> Path:
    """Write the Markov-chain judge: scores 1 to 5 evenly at temperature 1, always the same at 0."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    # Not special: vLLM leaves special tokens out of the text in which its parser looks for the thought's end.
    plain = ("<think>", "</think>", *THOUGHTS, *WORDS)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "model_max_length": context,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    width = -(-tokenizer.get_vocab_size() // HEAD) * HEAD
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": width // HEAD,
        "num_key_value_heads": width // HEAD,
        "head_dim": HEAD,
        "vocab_size": width,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.token_to_id("<|end|>"),
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_weights(tokenizer, width), folder / "model.safetensors", {"format": "pt"})
    return folder


def _weights(tokenizer: Tokenizer, width: int) -> dict[str, torch.Tensor]:
    layer = {
        **{f"self_attn.{name}_proj": torch.zeros(width, width) for name in "qkvo"},
        **{f"mlp.{name}_proj": torch.zeros(64, width) for name in ("gate", "up")},
        "mlp.down_proj": torch.zeros(width, 64),
        "input_layernorm": torch.ones(width),
        "post_attention_layernorm": torch.ones(width),
    }
    weights = {f"model.layers.0.{name}.weight": value for name, value in layer.items()}
    weights["model.embed_tokens.weight"] = torch.eye(width)
    weights["model.norm.weight"] = torch.ones(width)
    head = torch.zeros(width, width)
    for source, targets in _chain().items():
        for target, logit in targets.items():
            # The norm makes a one-hot vector sqrt(width) long.
            head[tokenizer.token_to_id(target), tokenizer.token_to_id(source)] = logit / width**0.5
    weights["lm_head.weight"] = head
    return weights


def _chain() -> Mapping[str, Mapping[str, float]]:
    """Logits of what follows a token. Where nothing is said here, the grammar alone decides."""
    return {
        "<|judge|>": {"<think>": 20},
        "<think>": dict.fromkeys(THOUGHTS, 20),
        **dict.fromkeys(THOUGHTS, {"</think>": 20, ";": 19.5}),
        ";": dict.fromkeys(THOUGHTS, 20),
        '"': dict.fromkeys(WORDS, 20),
        **dict.fromkeys(WORDS, {".": 20, "-": 19.5}),
        "-": dict.fromkeys(WORDS, 20),
        ".": {'"': 20},
        "}": {"<|end|>": 30},
    }
