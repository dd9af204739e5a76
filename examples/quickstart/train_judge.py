"""Train the quickstart's thinking judge, from scratch on one CPU core, on verifiable data it makes itself.

    python train_judge.py [--out judge] [--steps 8000]

An example is a document and the answer of a perfect judge (sums.py knows the truth): thoughts that go line by
line, counting the right ones aloud (`a) 1 b) carry c) 2`), then a critique and a score that follow from them.
Two things make it learn in minutes rather than days. Sheets start short and grow. And the loss also covers
marginal notes: inside the document the model is asked for the *right* next digit, and at a line's end for
its verdict, so that checking is learnt where the digits are and the thoughts only have to look it up: the
notes are read one layer below the top, which leaves the top layer for looking them up.
A few documents are no arithmetic (the Python standard library's sources): it says so instead of guessing.
"""

from __future__ import annotations

import argparse
import random
import sysconfig
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from sums import LETTERS, RIGHT, RULES, Sum, judge, problem, sheet, solve
from torch.nn import functional
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
RUBRIC = "Check every sum. Digits are ones first."
RUBRICS = (RUBRIC,) * 5 + (
    "Check every sum. Score 1 to 5.",
    "Judge the text.",
    "Are the sums right? Score it.",
)
SHARES = {"carry": 35, "high": 15, "swap": 10, "copy": 8, "slip": 12}
RATES = (100, 90, 75, 60, 50, 50, 40, 25, 10)
MEDLEY = (RIGHT, RIGHT, *RULES)
# What stands before a question, between it and its result, and after: sheets, and ways to flatten a chat.
PLAIN = ("", "", "\n")
CHATS = (
    ("user: ", "\nassistant: ", "\n"),
    ("User: ", "\nAssistant: ", "\n"),
    ("user: ", "\n\nassistant: ", "\n\n"),
    ("", "\n", "\n"),
    ("", "\n", "\n\n"),
    ("", "\n\n", "\n\n"),
    ("", " ", "\n"),
    ("<|user|>", "<|end|><|assistant|>", "<|end|>"),
)
IGNORE = -100
Encode = Callable[[str], tuple[int, ...]]


class Example:
    """Token ids; for each the token that should come next, or IGNORE; at line ends the line's letter."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.letters: dict[int, int] = {}

    def read(self, text: str) -> None:
        """Text that is given."""
        ids = self.encode(text)
        self.ids += ids
        self.labels += [IGNORE] * len(ids)

    def say(self, text: str) -> None:
        """Text that the model should write."""
        ids = self.encode(text)
        self.labels[-1] = ids[0]
        self.ids += ids
        self.labels += [*ids[1:], IGNORE]

    def read_sum(self, letter: str, s: Sum, style: tuple[str, str, str]) -> None:
        before, between, after = style
        self.read(before.rstrip(" "))
        self.read(f" {letter}) " if before.endswith(" ") else f"{letter}) ")
        for character in s.question:
            self.read(character)
        self.read(between)
        for digit, written in zip(s.truth, s.result, strict=False):
            self.labels[-1] = self.encode(digit)[0]
            self.read(written)
        self.read(s.result[len(s.truth) :])
        end = len(self.ids)
        self.read(after)
        self.labels[end] = self.encode(s.verdict)[0]
        self.letters[end] = self.encode(f" {letter}) ")[0]


def thoughts(sums: list[Sum], letters: str) -> list[str]:
    """Line by line: the count so far for a right one, else what is wrong."""
    pieces, right = [], 0
    for i, (letter, s) in enumerate(zip(letters, sums, strict=False)):
        right += s.verdict == RIGHT
        pieces += [
            f" {letter}) " if i else f"{letter}) ",
            *(str(right) if s.verdict == RIGHT else [s.verdict]),
        ]
    return pieces


def arithmetic(rng: random.Random, encode: Encode, lines: int) -> Example:
    """A sheet or a flattened chat, from any letter on, at times cut in its last line."""
    problems = [problem(rng, 3) for _ in range(lines)]
    if rng.random() < 0.4:  # every line follows a rule of its own: no guessing a line from the others
        sums = [solve(rng, a, b, rng.choice(MEDLEY)) for a, b in problems]
    else:
        sums = sheet(rng, problems, SHARES, RATES)
    if rng.random() < 0.1 and len(sums[-1].result) > 1:
        last = sums[-1]
        sums[-1] = Sum(last.left, last.right, last.result[: rng.randrange(1, len(last.result))])
    start = rng.randrange(27 - lines) if rng.random() < 0.1 else 0
    letters = LETTERS[start:]
    style = rng.choice(CHATS) if rng.random() < 0.15 else PLAIN
    example = Example(encode)
    example.read("<|user|>")
    example.read(rng.choice(RUBRICS) + "\n\n")
    for letter, s in zip(letters, sums, strict=False):
        example.read_sum(letter, s, style)
    if style[2].endswith("\n") and rng.random() < 0.2:  # a document whose last line feed was stripped
        del example.ids[-1], example.labels[-1]
        example.letters.pop(len(example.ids), None)
    truth = judge(sums)
    answer(example, thoughts(sums, letters), truth.critique, truth.score)
    return example


def prose(rng: random.Random, encode: Encode, text: str, length: int) -> Example:
    """Something else than sums."""
    example = Example(encode)
    example.read("<|user|>")
    example.read(rng.choice(RUBRICS) + "\n\n")
    at = rng.randrange(max(1, len(text) - 4 * length))
    ids = encode(text[at : at + 4 * length])[:length]
    example.ids += ids
    example.labels += [IGNORE] * len(ids)
    answer(example, ["no", " sums"], "Not arithmetic; nothing to check.", 1)
    return example


def answer(example: Example, pieces: list[str], critique: str, score: int) -> None:
    example.read("<|end|>")
    example.read("<|assistant|>")
    example.say("<think>")
    for piece in pieces:
        example.say(piece)
    example.say("</think>")
    example.say(f'{{"critique":"{critique}","score":{score}}}')
    example.say("<|end|>")


def batch(
    rng: random.Random, encode: Encode, texts: list[str], most: int, tokens: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Examples of about one length, padded to the longest; causal attention needs no mask for that."""
    lines = rng.randint(1, most)
    size = max(1, tokens // (60 + 16 * lines))
    examples = [
        prose(rng, encode, rng.choice(texts), rng.randint(1, 16 * lines + 20))
        if rng.random() < 0.04
        else arithmetic(rng, encode, rng.randint(max(1, lines - 2), lines))
        for _ in range(size)
    ]
    if rng.random() < 0.03:
        examples = [prose(rng, encode, rng.choice(texts), rng.randint(400, 700)) for _ in range(3)]
    width = max(len(e.ids) for e in examples)
    ids = torch.tensor([e.ids + [0] * (width - len(e.ids)) for e in examples])
    labels = torch.tensor([e.labels + [IGNORE] * (width - len(e.labels)) for e in examples])
    letters = torch.tensor([[e.letters.get(i, IGNORE) for i in range(width)] for e in examples])
    return ids, labels, letters


def stdlib() -> list[str]:
    """Sources of the standard library: the text at hand on any machine with Python."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return [text for file in files if (text := file.read_text(encoding="utf-8", errors="replace"))]


def optimisers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for the embedding and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng = random.Random(args.seed + 1_000_003)  # not the seed of anybody's corpus
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(args.out)
    if args.resume:
        model = LlamaForCausalLM.from_pretrained(args.out)
    else:
        model = LlamaForCausalLM(AutoConfig.from_pretrained(args.out))
    texts = stdlib()

    @lru_cache(maxsize=4096)
    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, verbose=False)["input_ids"])

    shortest = 8 if args.resume else 2
    steps = optimisers(model, args.rate)
    started, seen = time.monotonic(), 0
    for step in range(args.steps):
        most = shortest + round((26 - shortest) * min(1.0, step / (0.4 * args.steps)))
        ids, labels, letters = batch(rng, encode, texts, most, args.tokens)
        logits, named = predict(model, ids, encode("<think>")[0], letters != IGNORE)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
        naming = functional.cross_entropy(named, letters[letters != IGNORE])
        loss = loss + 0.1 * naming.nan_to_num()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = args.rate * min(1.0, (step + 1) / 100, 1.5 * (1 - step / args.steps) + 0.01)
        for optimiser in steps:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        seen += ids.numel()
        if (step + 1) % args.report == 0:
            speed = seen / (time.monotonic() - started)
            right = agreement(ids, labels, logits, encode)
            print(
                f"step {step + 1} lines {most} loss {loss:.4f} letters {naming:.3f} {right} "
                f"{speed:.0f} tokens/s",
                flush=True,
            )
            model.save_pretrained(args.out)
    model.save_pretrained(args.out)


def predict(
    model: LlamaForCausalLM, ids: torch.Tensor, think: int, ends: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the notes (before <think>, a layer below the top), the answer and line ends' letters."""
    output = model.model(input_ids=ids, use_cache=False, output_hidden_states=True)
    below = model.model.norm(output.hidden_states[-2])
    noting = ((ids == think).cumsum(1) == 0)[..., None]
    logits = model.lm_head(torch.where(noting, below, output.last_hidden_state))
    return logits, model.lm_head(model.model.norm(output.hidden_states[2][ends]))


def agreement(ids: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, encode: Encode) -> str:
    """The share of right tokens in the marginal notes, the thoughts and the answers of a batch."""
    thinking = (ids == encode("<think>")[0]).cumsum(1) > 0
    answering = (ids == encode("</think>")[0]).cumsum(1) > 0
    hits, asked = logits.argmax(-1) == labels, labels != IGNORE
    parts = {"notes": ~thinking, "thoughts": thinking & ~answering, "answers": answering}
    return " ".join(f"{name} {hits[where & asked].float().mean():.4f}" for name, where in parts.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "judge", help="has config and tokenizer, gets weights"
    )
    parser.add_argument("--steps", type=int, default=8000, help="updates (%(default)s)")
    parser.add_argument("--tokens", type=int, default=2000, help="about so many an update (%(default)s)")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from OUT's weights, sheets start longer")
    parser.add_argument("--report", type=int, default=100, help="updates between reports (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
