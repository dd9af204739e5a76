"""Small tokenizers and models in Hugging Face folders, as a user would bring them."""

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from transformers import LlamaConfig

BOS, EOS = "<s>", "</s>"
VOCABULARY = {token: number for number, token in enumerate([BOS, EOS, "<unk>", "\n", *string.printable[:95]])}
"""One token a character: tests can tell what each token is."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{% if m.role == 'assistant' %}"
    "{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
"""As Gemma 2 has it."""

THINKING = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}[{{ m.role }}] {% if m.role == 'assistant' %}{% if loop.index0 > ns.last %}"
    "<think>{{ m.reasoning_content or '' }}</think>{% endif %}{{ m.content }}{{ eos_token }}"
    "{% else %}{{ m.content }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
"""As Qwen 3 has it: only answers to the last question show what was thought before them."""

CALLING = (
    "{% if tools %}[tools] {{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% for c in m.tool_calls or [] %}"
    "<{{ c.function.name }} {{ c.function.arguments | tojson }}>{% endfor %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def tokenizer_folder(folder: Path, *, chat: bool = False, first: int = 0) -> Path:
    """A tokenizer of characters that puts BOS in front of a text; its ids begin at `first`."""
    vocabulary = {token: first + number for token, number in VOCABULARY.items()}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, unk_token="<unk>", pad_token=EOS
    )
    if chat:
        wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
    return folder


def config(vocabulary: int = len(VOCABULARY), *, width: int = 32, layers: int = 2) -> "LlamaConfig":
    """A Llama of a few ten thousand parameters."""
    # Imported here, as below: both take seconds, and most tests need a tokenizer alone.
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=VOCABULARY[BOS],
        eos_token_id=VOCABULARY[EOS],
        tie_word_embeddings=False,
    )


def config_folder(folder: Path, vocabulary: int = len(VOCABULARY), *, width: int = 32) -> Path:
    """A folder with a config.json alone: a model from scratch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(vocabulary, width=width).to_dict()))
    return folder


def model_folder(folder: Path, seed: int = 0, *, chat: bool = False) -> Path:
    """A checkpoint with weights and tokenizer."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    LlamaForCausalLM(config()).save_pretrained(folder)
    return tokenizer_folder(folder, chat=chat)
