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
from make.models import CHAT_TEMPLATE, tokenizer_folder
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


NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
)
TEMPLATES = {
    "that knows no system turn": (
        NO_SYSTEM + "{% endif %}[{{ m.role }}] {{ m.content }}\n{% endfor %}",
        Exit.DATA,
        "refuses a conversation of system, user, assistant: System role not supported",
    ),
    "that changes the system text": (
        CHAT_TEMPLATE.replace("{{ message['content'] }}", "{{ message['content'] | upper }}"),
        Exit.CONFIG,
        "does not show the system text as it is",
    ),
    "that changes what stood before": (
        "{{ messages | length }}" + CHAT_TEMPLATE,
        Exit.CONFIG,
        "renders a turn differently when more turns follow",
    ),
    "that is broken": ("{% for", Exit.DATA, "refuses a conversation of system, user, assistant"),
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template(template: str, tmp_path: Path) -> None:
    text, code, message = TEMPLATES[template]
    folder = tokenizer_folder(tmp_path / "tokenizer", chat=True)
    (folder / "chat_template.jinja").write_text(text)
    corpus = inventory(tmp_path, [PLAIN], holdout_documents=0)
    error = refused(sft(tmp_path, corpus, folder, feedback(tmp_path, corpus, good)))
    assert (error.code, message in error.message) == (code, True), error.message


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
