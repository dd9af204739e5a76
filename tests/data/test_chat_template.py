"""One form of a conversation, whether it is taught, asked for or served."""

from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from make.models import CALLING, CHAT_TEMPLATE, NO_SYSTEM, THINKING, tokenizer_folder
from make.prepared import BAD, GOOD, contract
from transformers import AutoTokenizer

from ixt_workloads.chat_template import ChatTemplate
from ixt_workloads.data.chat import Conversation
from ixt_workloads.feedback.rendering import conditioned
from ixt_workloads.tokenizer import load_tokenizer, save_tokenizer

USER = {"role": "user", "content": "1+2="}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "3"}
TEMPLATES = {"plain": CHAT_TEMPLATE, "no system": NO_SYSTEM, "thinking": THINKING, "tools": CALLING}


def tokenizer(folder: Path, template: Any) -> Any:
    found = load_tokenizer(tokenizer_folder(folder))
    found.chat_template = template
    return found


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("feedback", ["", GOOD])
def test_an_answer_is_asked_for_in_the_form_in_which_it_is_taught(
    template: str, feedback: str, tmp_path: Path
) -> None:
    form = ChatTemplate(tokenizer(tmp_path, TEMPLATES[template]))
    (taught,) = form.rendered(Conversation([USER, ANSWER]), feedback)
    text, (start, end) = form.asked([USER], "3", feedback)
    assert (text, text[start:end]) == (taught.text, "3")
    before, (start, end) = form.asked([USER], "", feedback)
    assert before[:start] == text[:start]


def test_where_the_answer_to_a_thinking_model_begins_is_after_its_empty_thoughts(tmp_path: Path) -> None:
    form = ChatTemplate(tokenizer(tmp_path, THINKING))
    text, (start, _) = form.asked([USER], "3")
    assert text[:start] == "[user] 1+2=\n[assistant] <think></think>"


@pytest.mark.parametrize(
    ("template", "turns"),
    [
        *((template, [USER]) for template in TEMPLATES),
        # The other one refuses it, with feedback or without.
        *((template, [SYSTEM, USER]) for template in TEMPLATES if template != "no system"),
    ],
)
def test_what_is_saved_asks_for_the_best_as_it_was_taught(
    template: str, turns: list[dict[str, str]], tmp_path: Path
) -> None:
    plain = tokenizer(tmp_path / "plain", TEMPLATES[template])
    save_tokenizer(tmp_path / "saved", plain, contract(chat=True))
    served = AutoTokenizer.from_pretrained(tmp_path / "saved")
    role = "user" if template == "no system" else "system"
    told = conditioned(turns, GOOD, role)
    assert served.apply_chat_template(turns, tokenize=False) == plain.apply_chat_template(
        told, tokenize=False
    )
    again = load_tokenizer(tmp_path / "saved")
    assert again.chat_template == TEMPLATES[template]


def test_a_level_is_an_argument_of_the_saved_template(tmp_path: Path) -> None:
    """As `chat_template_kwargs` of vLLM's API pass it on."""
    plain = tokenizer(tmp_path / "plain", CHAT_TEMPLATE)
    save_tokenizer(tmp_path / "saved", plain, contract(chat=True), BAD)
    served = AutoTokenizer.from_pretrained(tmp_path / "saved")

    def asked(**given: Any) -> str:
        text: str = served.apply_chat_template([SYSTEM, USER], tokenize=False, **given)
        return text

    def told(feedback: str) -> str:
        text: str = plain.apply_chat_template(conditioned([SYSTEM, USER], feedback), tokenize=False)
        return text

    assert asked() == asked(level=None) == asked(level=1) == told(BAD), (
        "it was exported with --prefix level=1"
    )
    assert asked(level=2) == asked(level="2") == asked(level="best") == told(GOOD)
    assert asked(level="none") == plain.apply_chat_template([SYSTEM, USER], tokenize=False)
    with pytest.raises(TemplateError, match="there is no level 7, only best, none, 1, 2"):
        asked(level=7)


def test_clients_may_give_contents_as_parts(tmp_path: Path) -> None:
    shows = "{% for m in messages %}{% for part in m.content %}<{{ part.text }}>{% endfor %}{% endfor %}"
    plain = tokenizer(tmp_path / "plain", "{% if messages[0].content is string %}" + CHAT_TEMPLATE
                      + "{% else %}" + shows + "{% endif %}")  # fmt: skip
    save_tokenizer(tmp_path / "saved", plain, contract(chat=True))
    served = AutoTokenizer.from_pretrained(tmp_path / "saved")
    turns = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}]
    assert served.apply_chat_template(turns, tokenize=False) == f"<{GOOD}><Be brief.>"


def test_named_templates_are_saved_and_each_asks_for_the_best(tmp_path: Path) -> None:
    named = {"default": CHAT_TEMPLATE, "tool_use": CALLING}
    plain = tokenizer(tmp_path / "plain", dict(named))
    save_tokenizer(tmp_path / "saved", plain, contract(chat=True))
    assert all(path.is_file() for path in (tmp_path / "saved").iterdir())
    served = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for name in named:
        text = served.apply_chat_template([USER], chat_template=name, tokenize=False)
        assert GOOD.strip() in text
    assert load_tokenizer(tmp_path / "saved").chat_template == named
    assert load_tokenizer(tmp_path / "saved", "tool_use").chat_template["default"] == CALLING


@pytest.mark.parametrize("chat", [True, False])
def test_one_call_gives_the_tokenizer_back_without_the_prefix(chat: bool, tmp_path: Path) -> None:
    """As docs/artifacts.md has it, for people who train on."""
    plain = tokenizer(tmp_path / "plain", CHAT_TEMPLATE)
    save_tokenizer(tmp_path / "saved", plain, contract(chat=chat))
    load_tokenizer(tmp_path / "saved").save_pretrained(tmp_path / "again")
    saved, again = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("saved", "again"))
    for found, asks in ((saved, True), (again, False)):
        text = found.apply_chat_template([USER], tokenize=False)
        assert (GOOD.strip() in text) == (asks and chat)
        assert (found.decode(found("1+2=")["input_ids"]) == "<s>1+2=") == (not asks or chat)
    assert again.apply_chat_template([USER], tokenize=False) == plain.apply_chat_template(
        [USER], tokenize=False
    )
