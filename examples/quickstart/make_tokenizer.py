"""Write the tokenizer that judge and student share, and both models' configurations.

    python make_tokenizer.py

A byte-level BPE of 512 tokens: any UTF-8 text survives the round trip, digits stay single (a sum is read
column by column), a line's letter is one token. Files go to judge/ and student/ beside this script; they are
in the repository, so this is needed only to change them.
"""

from __future__ import annotations

import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from sums import LETTERS, judge, problem, render, sheet
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

HERE = Path(__file__).parent
WIDTH = 128
HEAD = 32
VOCABULARY = 512
PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
THINK, THOUGHT = "<think>", "</think>"
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# A line's letter with its blank, single digits, words, line ends, blanks, and anything else.
PIECES = r" ?[a-z]\) |\d| ?\p{L}+|\n| +|[^\s\p{L}\d]+|\s"


def sample(seed: int = 0) -> Iterator[str]:
    """Text to merge by: the judge's own words in the main, and a little source for the rest of the world."""
    rng = random.Random(seed)
    even = {"carry": 18, "high": 18, "swap": 18, "copy": 18, "slip": 18}
    for _ in range(4000):
        sums = sheet(rng, [problem(rng, 3) for _ in range(rng.randint(1, 26))], even)
        truth = judge(sums)
        thought = "".join(f" {letter}) {s.verdict}" for letter, s in zip(LETTERS, sums, strict=False))
        answer = json.dumps({"critique": truth.critique, "score": truth.score}, separators=(",", ":"))
        yield f"Check every sum. Digits are ones first.\n\n{render(sums)} {thought} {answer}"
        yield f"Quality: {truth.score}/5\nCritique: {truth.critique}\n\nNot arithmetic; nothing to check."
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:20]:
        yield path.read_text(encoding="utf-8", errors="replace")


def train() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True) for text in (PAD, END, SYSTEM, USER, ASSISTANT)]
    tokenizer.train_from_iterator(
        sample(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - 2,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # Not special: the reasoning parser finds them in the decoded text.
    tokenizer.add_tokens([AddedToken(THINK, special=False), AddedToken(THOUGHT, special=False)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    return fast


def config(tokenizer: PreTrainedTokenizerFast, layers: int) -> LlamaConfig:
    """A Llama of width 128, with heads of 32: the smallest that vLLM's CPU attention takes."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=320,
        num_hidden_layers=layers,
        num_attention_heads=WIDTH // HEAD,
        num_key_value_heads=WIDTH // HEAD,
        head_dim=HEAD,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.08,  # about 1/sqrt(width): at the usual 0.02 so small a model takes off far later
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        architectures=["LlamaForCausalLM"],
    )


def main() -> None:
    tokenizer = train()
    for name, layers in (("judge", 4), ("student", 2)):
        tokenizer.save_pretrained(HERE / name)
        config(tokenizer, layers).save_pretrained(HERE / name)


if __name__ == "__main__":
    main()
