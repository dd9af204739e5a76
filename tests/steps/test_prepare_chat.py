"""Prepare on conversations: feedback in the system text, and only the assistant's words as targets."""

from pathlib import Path
from typing import Any

import pytest
from make.corpora import chat, read
from make.feedback import (
    RUBRIC,
    Segment,
    feedback,
    held_feedback,
    inventory,
    packed,
    prepare_task,
    prepared,
    segments,
)
from make.models import CALLING, CHAT_TEMPLATE, NO_SYSTEM, THINKING, tokenizer_folder
from make.tasks import run_here, run_step

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.settings import (
    FeedbackFormat,
    LossOnFeedback,
    Method,
    StageType,
)
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.store import Artifact

PLAIN = chat("1+1?", "2")
OWN = chat("2+2?", "4", system="Be brief.")
LONGER = [*chat("a?", "b", system=""), *chat("c?", "d e")]
TALKS = [PLAIN, OWN, LONGER]
FRONT = "Quality: 5/5\nCritique: Good."


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"), chat=True)


def good(_: Any) -> tuple[float, str]:
    return 5, "Good."


def sft(folder: Path, corpus: Artifact, tokenizer: Path, *bands: Artifact, **fields: Any) -> Task:
    """Without lossOnFeedback it is masked, as the planner resolves it for SFT."""
    loss = fields.pop("loss_on_feedback", LossOnFeedback.MASK)
    return prepare_task(
        folder, corpus, tokenizer, *bands, stage_type=StageType.SFT, loss_on_feedback=loss, **fields
    )


def by_question(job: Task) -> dict[str, Segment]:
    return {segment.document.partition("?")[0][-3:].strip(": "): segment for segment in segments(job)}


def test_feedback_stands_in_the_system_text_before_a_users_own(chatty: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, TALKS, holdout_documents=0)
    job = sft(tmp_path, corpus, chatty, feedback(tmp_path, corpus, good))
    done = run_step(job, tmp_path / "run")
    assert done.code == 0, done.log
    found = by_question(job)
    assert {name: segment.text for name, segment in found.items()} == {
        "1+1": f"<s>[system] {FRONT}\n[user] 1+1?\n[assistant] 2</s>\n",
        "2+2": f"<s>[system] {FRONT}\n\nBe brief.\n[user] 2+2?\n[assistant] 4</s>\n",
        "a": f"<s>[system] {FRONT}\n[user] a?\n[assistant] b</s>\n[user] c?\n[assistant] d e</s>\n",
    }
    assert {name: segment.targets for name, segment in found.items()} == {
        "1+1": "2</s>\n", "2+2": "4</s>\n", "a": "b</s>\nd e</s>\n",
    }  # fmt: skip
    assert {segment.level for segment in found.values()} == {5}
    summary = Artifact.open(corpus.store, job.key).summary
    assert summary["feedbackTokens"] == 3 * len(FRONT)
    assert summary["documentTokens"] == summary["tokens"] - summary["feedbackTokens"]
    assert (summary["conditioned"], summary["documents"], summary["cut"]) == (3, 3, 0)


def test_feedback_may_be_in_the_loss_of_conversations_too(chatty: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, TALKS, holdout_documents=0)
    band = feedback(tmp_path, corpus, good)
    job = sft(tmp_path, corpus, chatty, band, loss_on_feedback=LossOnFeedback.INCLUDE)
    prepared(job)
    assert by_question(job)["2+2"].targets == f"{FRONT}4</s>\n"


def test_conversations_without_feedback_are_as_they_were(chatty: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, TALKS, holdout_documents=0)
    for job in (
        sft(tmp_path, corpus, chatty, method=Method.NEXT_TOKEN),
        sft(tmp_path, corpus, chatty, feedback(tmp_path, corpus, lambda _: None)),
    ):
        prepared(job)
        found = by_question(job)
        assert found["1+1"].text == "<s>[user] 1+1?\n[assistant] 2</s>\n"
        assert found["2+2"].text == "<s>[system] Be brief.\n[user] 2+2?\n[assistant] 4</s>\n"
        assert found["1+1"].targets == "2</s>\n"


def test_the_contract_of_a_chat_is_the_system_text(chatty: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, [chat(f"{number}?", "yes") for number in range(20)], holdout_documents=2)
    held = held_feedback(tmp_path, corpus, good)
    found = prepared(sft(tmp_path, corpus, chatty, feedback(tmp_path, corpus, good), held=held))
    agreed = Prefixes.read(found)
    assert agreed and agreed.chat
    assert agreed.by_level == {5: FRONT}
    assert agreed.best == f"Quality: 5/5\nCritique: {RUBRIC.ideal_critique}"
    rows = read(found, "holdout")
    assert [(row["level"], row["critique"]) for row in rows] == [(5, "Good.")] * 2
    assert {row["messages"] for row in rows} == {row["messages"] for row in read(corpus, "holdout")}


def test_conversations_are_cut_only_where_they_are_too_long(chatty: Path, tmp_path: Path) -> None:
    """One that leaves the assistant nothing to say is left out; none is cut to fill a row."""
    fits = [chat(f"{number}?", "y" * (20 + number)) for number in range(30)]
    too_long = [chat("long?", "z" * 200), chat("q" * 200, "never seen")]
    corpus = inventory(tmp_path, [*fits, *too_long], holdout_documents=0)
    job = sft(tmp_path, corpus, chatty, method=Method.NEXT_TOKEN, length=128)
    summary = prepared(job).summary
    assert (summary["documents"], summary["cut"]) == (31, 2)
    texts = {segment.text for segment in segments(job)}
    assert texts == {
        *(f"<s>[user] {talk[0]['content']}\n[assistant] {talk[1]['content']}</s>\n" for talk in fits),
        f"<s>[user] long?\n[assistant] {'z' * 200}"[: 128 + 2],
    }
    assert all(packed(job)[row].length <= 128 for row in range(len(packed(job))))


def test_conversations_that_are_all_too_long_are_refused(chatty: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, [chat("q" * 200, "never seen")], holdout_documents=0)
    error = refused(sft(tmp_path, corpus, chatty, method=Method.NEXT_TOKEN))
    assert error.code == Exit.DATA and "raise prepare.sequenceLength" in error.hint
    assert "in none of 1 conversations does the assistant say anything within 128 tokens" in error.message


def refused(job: Task) -> StepError:
    with pytest.raises(StepError) as caught:
        run_here(job)
    assert caught.value.hint
    return caught.value


TEMPLATES = {
    "that changes the system text": (
        CHAT_TEMPLATE.replace("{{ message['content'] }}", "{{ message['content'] | upper }}"),
        "does not show the feedback as it is",
    ),
    "that begins an answer otherwise": (
        CHAT_TEMPLATE.replace("%}[assistant] {% endif", "%}[assistant] <think>{% endif"),
        "renders an answer otherwise than it begins one (add_generation_prompt)",
    ),
    "that is broken": ("{% for", "of user, assistant: unexpected 'end of template'"),
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_that_nothing_can_be_taught_in_is_refused(template: str, tmp_path: Path) -> None:
    text, message = TEMPLATES[template]
    corpus = inventory(tmp_path, [PLAIN], holdout_documents=0)
    job = sft(tmp_path, corpus, templated(tmp_path, text), feedback(tmp_path, corpus, good))
    error = refused(job)
    assert error.code == Exit.CONFIG
    assert "chat template refuses a question and its answer: " in error.message
    assert message in error.message


def templated(folder: Path, text: str) -> Path:
    """A tokenizer with this chat template."""
    made = tokenizer_folder(folder / "tokenizer", chat=True)
    (made / "chat_template.jinja").write_text(text)
    return made


def taught(folder: Path, template: str, *talks: Any, told: bool = True, **fields: Any) -> list[Segment]:
    """The segments that Prepare makes of conversations in a template."""
    corpus = inventory(folder, list(talks), holdout_documents=0, **fields)
    bands = [feedback(folder, corpus, good)] if told else []
    job = sft(folder, corpus, templated(folder, template), *bands, length=512,
              method=Method.CONDITIONED if told else Method.NEXT_TOKEN)  # fmt: skip
    prepared(job)
    return segments(job)


def test_where_a_template_takes_no_system_turn_feedback_begins_the_users_first(tmp_path: Path) -> None:
    (one,) = taught(tmp_path, NO_SYSTEM, PLAIN)
    assert one.text == f"[user] {FRONT}\n\n1+1?\n[assistant] 2</s>\n"
    assert one.targets == "2</s>\n"


def test_answers_that_a_template_rewrites_later_are_taught_as_they_are_asked_for(tmp_path: Path) -> None:
    talk = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2", "reasoning_content": "one more"},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "thanks"},
    ]
    found = taught(tmp_path, THINKING, talk, told=False)
    assert sorted((one.text, one.targets) for one in found) == [
        ("[user] 1+1?\n[assistant] 2</s>\n[user] 2+2?\n[assistant] <think></think>4</s>\n",
         "<think></think>4</s>\n"),
        ("[user] 1+1?\n[assistant] <think>one more</think>2</s>\n", "<think>one more</think>2</s>\n"),
    ]  # fmt: skip


MARKED = (
    "{% for m in messages %}[{{ m.role }}] {% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<start>{% endif %}"
)


def test_what_a_template_marks_as_generated_is_what_is_learnt(tmp_path: Path) -> None:
    (one,) = taught(tmp_path, MARKED, LONGER[1:], told=False)
    assert one.text == "[user] a?\n[assistant] b</s>\n[user] c?\n[assistant] d e</s>\n"
    assert one.targets == "b</s>d e</s>"


def test_a_template_prints_the_same_date_on_every_day(tmp_path: Path) -> None:
    (one,) = taught(tmp_path, "{{ strftime_now('%d %b %Y') }}\n" + CHAT_TEMPLATE, PLAIN, told=False)
    assert one.text.startswith("01 Jan 2025\n<s>[user] 1+1?")


CALLS = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 1}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "2"},
    {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
]  # fmt: skip


def test_calls_of_tools_are_taught_where_the_template_knows_them(tmp_path: Path) -> None:
    (one,) = taught(tmp_path, CALLING, CALLS, told=False)
    assert one.text == '[user] 1+1?\n[assistant] <add {"a": 1, "b": 1}>\n[tool] 2\n[assistant] two\n'
    assert one.targets == '<add {"a": 1, "b": 1}>\ntwo\n'


def test_calls_that_a_template_does_not_show_are_never_an_empty_answer(chatty: Path, tmp_path: Path) -> None:
    """Dropped, counted and told, as is reasoning that the template does not show."""
    thought = [*chat("3+3?", "6")[:1], {"role": "assistant", "content": "6", "reasoning_content": "3 and 3"}]
    corpus = inventory(tmp_path, [PLAIN, OWN, CALLS, thought], holdout_documents=0)
    job = sft(tmp_path, corpus, chatty, method=Method.NEXT_TOKEN)
    message = run_here(job).message
    assert message.endswith(
        "; 1 conversations refused by the chat template (dataset corpus: it does not show calls of tools); "
        "1 conversations have reasoning that the chat template does not show"
    )
    assert {one.targets for one in segments(job)} == {"2</s>\n", "4</s>\n", "6</s>\n"}
    summary = Artifact.open(corpus.store, job.key).summary
    assert summary["refused"] == {"dataset corpus: it does not show calls of tools": 1}
    assert summary["lost"] == {"reasoning": 1}


def test_an_answer_of_no_weight_is_read_and_not_learnt(chatty: Path, tmp_path: Path) -> None:
    talk = [*chat("3+3?", "7"), *chat("no", "6")]
    talk[1]["weight"], talk[3]["weight"] = 0, 1  # type: ignore[assignment]
    corpus = inventory(tmp_path, [talk], holdout_documents=0)
    job = sft(tmp_path, corpus, chatty, method=Method.NEXT_TOKEN)
    prepared(job)
    (one,) = segments(job)
    assert (one.text, one.targets) == (
        "<s>[user] 3+3?\n[assistant] 7</s>\n[user] no\n[assistant] 6</s>\n", "6</s>\n"
    )  # fmt: skip


ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + CHAT_TEMPLATE
)


def test_conversations_that_the_template_refuses_are_left_out_and_told(tmp_path: Path) -> None:
    twice = [*chat("x", "y")[:1], *chat("y", "z")]
    talks = [PLAIN, chat("a", "b"), twice]
    corpus = inventory(tmp_path, talks, holdout_documents=0)
    job = sft(tmp_path, corpus, templated(tmp_path, ALTERNATE), method=Method.NEXT_TOKEN)
    assert (
        "; 1 conversations refused by the chat template (dataset corpus: of user, user"
        in run_here(job).message
    )
    assert len(segments(job)) == 2


def test_when_the_template_refuses_most_conversations_nothing_is_trained(tmp_path: Path) -> None:
    twice = [[*chat(str(number), "y")[:1], *chat("y", "z")] for number in range(3)]
    corpus = inventory(tmp_path, [PLAIN, *twice], holdout_documents=0)
    error = refused(sft(tmp_path, corpus, templated(tmp_path, ALTERNATE), method=Method.NEXT_TOKEN))
    assert error.code == Exit.DATA
    assert error.message == (
        "the tokenizer's chat template refuses 3 of 4 conversations, most often of dataset corpus: of user, "
        "user, assistant: roles must alternate"
    )


def test_of_several_templates_the_default_is_taken_or_the_one_that_is_named(tmp_path: Path) -> None:
    corpus = inventory(tmp_path, [PLAIN], holdout_documents=0)
    folder = tokenizer_folder(tmp_path / "tokenizer", chat=True)
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text(CALLING)

    def text(name: str | None) -> str:
        job = sft(tmp_path, corpus, folder, method=Method.NEXT_TOKEN, chat_template=name)
        prepared(job)
        return segments(job)[0].text

    assert text(None) == "<s>[user] 1+1?\n[assistant] 2</s>\n"
    assert text("tool_use") == "[user] 1+1?\n[assistant] 2\n"
    with pytest.raises(StepError, match=r"has no chat template called 'rag', only 'default', 'tool_use'"):
        text("rag")
    (folder / "chat_template.jinja").rename(more / "other.jinja")
    with pytest.raises(
        StepError, match=r"several chat templates \(other, tool_use\) and none is the default"
    ):
        text(None)


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, [PLAIN], holdout_documents=0)
    error = refused(sft(tmp_path, corpus, tokenizer, method=Method.NEXT_TOKEN))
    assert error.code == Exit.CONFIG and "has no chat template" in error.message


def test_levels_alone_need_no_critique(chatty: Path, tmp_path: Path) -> None:
    corpus = inventory(tmp_path, [PLAIN], holdout_documents=0)
    band = feedback(tmp_path, corpus, lambda _: (2, ""))
    job = sft(tmp_path, corpus, chatty, band, format=FeedbackFormat.TOKEN)
    prepared(job)
    assert by_question(job)["1+1"].text.startswith("<s>[system] Quality: 2/5\n[user]")
