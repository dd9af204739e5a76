"""Judges for tests: a model folder for the real engine, and a double that fails on demand.

The model is a Markov chain written into a Llama's weights by hand: attention and feed-forward give nothing,
the embedding is one-hot, so the head is a table of what follows which token. It thinks a few words, answers
a few words and ends, which random weights do not. The double stands for what a real engine cannot be made to
do when a test asks for it: answer garbage or 500, hang, stay unready, die in the middle.
"""

import asyncio
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import torch
from aiohttp import web
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from make import loopback

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
        **{thought: {"</think>": 20, ";": 19.5} for thought in THOUGHTS},
        ";": dict.fromkeys(THOUGHTS, 20),
        '"': dict.fromkeys(WORDS, 20),
        **{word: {".": 20, "-": 19.5} for word in WORDS},
        "-": dict.fromkeys(WORDS, 20),
        ".": {'"': 20},
        "}": {"<|end|>": 30},
    }


class Double:
    """A server that speaks the judge's API from a thread of this process, and does what a test asks for.

    `mode` may change at any time: Good, Garbage (no JSON), Free (JSON when asked for feedback, whatever
    response_format says), Thoughtless (no reasoning), Error (500), Throttle (429), Unready (health check
    fails), Forbidden (401). With `hold_after` set, requests beyond that number wait until `release`.
    Answers follow from the document alone; a token is a byte.
    """

    def __init__(self, mode: str = "Good", context: int = 100_000, hold_after: int | None = None) -> None:
        self.mode = mode
        self.context = context
        self.hold_after = hold_after
        self.asked: Counter[str] = Counter()
        """Requests by document."""
        self.root = ""
        """What it says is behind its name."""
        self.name = "judge"
        """By which it answers."""
        self.salted = False
        """Whether the same document is answered otherwise each time."""
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: set[str] = set()
        self.refuses: dict[str, tuple[int, str]] = {}
        """Status and words for requests whose document begins so."""
        self.held = threading.Event()
        """Set once a request waits."""
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._port = 0
        self._served = AsyncExitStack()
        self._waiting = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port each time."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def die(self) -> None:
        """Stop listening and cut every connection, as a killed process does."""
        asyncio.run_coroutine_threadsafe(self._served.aclose(), self._loop).result()

    def release(self) -> None:
        """Answer what was held, and hold nothing any more."""
        self.hold_after = None

    def _run(self) -> None:
        with self._runner:
            self._loop.run_forever()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._complete)
        self._port = await self._served.enter_async_context(loopback.serving(app, number=self._port))

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if self.mode == "Unready" else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        text = f'vllm:num_requests_running{{engine="0"}} {self._waiting}\nvllm:num_requests_waiting 0.0\n'
        return web.Response(text=text + f"vllm:generation_tokens_total {sum(self.asked.values())}\n")

    async def _models(self, _: web.Request) -> web.Response:
        names = ("judge", "double 1 float32")
        more = {"max_model_len": self.context} | ({"root": self.root} if self.root else {})
        return web.json_response({"data": [{"id": name, **more} for name in names]})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.authorizations.add(request.headers.get("Authorization", ""))
        content = body["messages"][0]["content"]
        document = document_in(content)
        self.asked[document] += 1
        if failure := await self._failure():
            return failure
        for start, (status, words) in self.refuses.items():
            if document.startswith(start):
                return web.json_response({"error": {"message": words}}, status=status)
        tokens = len(content.encode()) + 4
        if tokens + body["max_completion_tokens"] > self.context:
            message = f"This model's maximum context length is {self.context} tokens."
            return web.json_response({"error": {"message": message}}, status=400)
        prose = self.mode == "Garbage" or (self.mode == "Free" and not document)
        salt = f" {sum(self.asked.values())}" if self.salted else ""
        answer = "I like it." if prose else answer_to(document + salt, body)
        usage = {"prompt_tokens": tokens, "completion_tokens": 10 + len(answer)}
        thought = "" if self.mode == "Thoughtless" else "Thinking."
        message = {"role": "assistant", "content": answer, "reasoning": thought}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"model": self.name, "choices": [choice], "usage": usage})

    async def _failure(self) -> web.Response | None:
        """Waits, and then fails, if it is told to."""
        while self.hold_after is not None and sum(self.asked.values()) > self.hold_after:
            self._waiting += 1
            self.held.set()
            await asyncio.sleep(0.01)
            self._waiting -= 1
        failures = {"Error": 500, "Throttle": 429, "Forbidden": 401}
        if self.mode not in failures:
            return None
        return web.json_response({"error": {"message": f"told to: {self.mode}"}}, status=failures[self.mode])

    async def _complete(self, request: web.Request) -> web.Response:
        """As a policy: continuations that follow from the prompt and their number alone, the last one cut."""
        body = await request.json()
        self.bodies.append(body)
        self.authorizations.add(request.headers.get("Authorization", ""))
        self.asked[json.dumps(body["prompt"])] += 1
        if failure := await self._failure():
            return failure
        texts = [f"{sum(body['prompt']) + place}" for place in range(body["n"])]
        choices = [
            {"index": place, "text": text, "finish_reason": "length" if place == body["n"] - 1 else "stop"}
            for place, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": sum(map(len, texts))}
        return web.json_response({"choices": choices[::-1], "usage": usage})


def document_in(content: str) -> str:
    """The document in a judge's turn, bare or fenced."""
    found = content.partition("\n\n")[2]
    inside = re.search(r"^(=== [0-9a-f]{16} ===)\n(.*)\n\1$", found, re.DOTALL | re.MULTILINE)
    return inside[2] if inside else found


def answer_to(document: str, body: Mapping[str, Any]) -> str:
    """The double's answer: a function of the document, by the schema of the request."""
    digest = hashlib.sha256(document.encode()).digest()
    schema = body["response_format"]["json_schema"]["schema"]["properties"]
    axes = {
        name: rule["minimum"] + digest[place] % (rule["maximum"] - rule["minimum"] + 1)
        for place, (name, rule) in enumerate(schema.items())
        if name != "critique"
    }
    return json.dumps({"critique": f"Reads like {digest.hex()[:8]}.", **axes})
