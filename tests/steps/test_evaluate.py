"""Scores against what the model really does, and the step that commits them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from make.models import VOCABULARY, model_folder
from make.prepared import BAD, GOOD, LENGTH, contract, held, prepared, sums
from make.tasks import run_step, task
from make.training import artifact, questions, train_here, train_task
from torch.nn import functional

from ixt_workloads import models
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.metrics import HELD_OUT_LOSS, SCORE
from ixt_workloads.contract.settings import (
    EvalPrefix,
    EvalTask,
    Evaluate,
    StageType,
)
from ixt_workloads.data.questions import Question, read_questions
from ixt_workloads.evaluation import Evaluation
from ixt_workloads.tokenizer import load_tokenizer

CPU = torch.device("cpu")
ALL = tuple(EvalPrefix)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A model that knows a few sums."""
    folder = tmp_path_factory.mktemp("trained")
    key = prepared(folder / "storage", [(2, f"{n // 4}+{n % 4}={n // 4 + n % 4}") for n in range(16)] * 20)
    wanted = train_task(folder, steps=150, key=key)
    train_here(wanted)
    return wanted


@pytest.fixture(scope="module")
def loaded(trained: Task) -> Iterator[tuple[Any, Any]]:
    with models.gathered(artifact(trained)) as folder:
        yield models.load_model(folder).eval(), load_tokenizer(folder)


def evaluation(tokenizer: Any, **fields: Any) -> Evaluation:
    values = {
        "contract": contract(), "holdout": [], "tasks": {}, "prefixes": ALL, "chat": False,
        "max_length": LENGTH, "seed": 0, **fields,
    }  # fmt: skip
    return Evaluation(tokenizer, **values)


def test_an_answer_is_right_when_greedy_generation_gives_it(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    asked = [Question(f"{n // 7}+{n % 7}=", str(n // 7 + n % 7)) for n in range(0, 49, 2)]
    scored, written = [], []
    for question in asked:
        one = evaluation(tokenizer, tasks={"sums": [question]}, prefixes=[EvalPrefix.BEST])
        scored.append(one.score(model, CPU)["tasks"]["sums"]["Best"]["accuracy"] == 1)
        ids = torch.tensor([[VOCABULARY["<s>"], *(VOCABULARY[c] for c in GOOD + question.prompt)]])
        output = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=VOCABULARY["</s>"])
        text = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=False)
        written.append(text.partition("</s>")[0].partition("\n")[0] == question.answer)
    assert scored == written
    assert {True, False} == set(scored)


def test_nats_are_those_of_the_document_alone(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    texts = ["1+2=3", "3+3=6 and more", "0+0=1"]
    rows = [held(level, text) for level, text in zip((2, 1, 0), texts, strict=True)]
    scores = evaluation(tokenizer, holdout=rows).score(model, CPU)

    def nats(prefix: str, text: str) -> float:
        context = [VOCABULARY["<s>"], *(VOCABULARY[c] for c in prefix)]
        ids = torch.tensor([*context, *(VOCABULARY[c] for c in text)])
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        return float(
            functional.cross_entropy(logits[len(context) - 1 : -1], ids[len(context) :], reduction="sum")
        )

    count = sum(map(len, texts))
    true = sum(map(nats, (GOOD, BAD, ""), texts))
    assert scores["documents"]["True"] == {"nll": pytest.approx(true / count, rel=1e-5), "tokens": count}
    for name, prefix in (("None", ""), ("Best", GOOD), ("Worst", BAD)):
        expected = sum(nats(prefix, text) for text in texts) / count
        assert scores["documents"][name] == {"nll": pytest.approx(expected, rel=1e-5), "tokens": count}
    assert [(level["level"], level["documents"]) for level in scores["levels"]] == [(0, 1), (1, 1), (2, 1)]
    assert scores["levels"][2]["nll"]["True"] == pytest.approx(scores["levels"][2]["nll"]["Best"], rel=1e-5)


def test_single_items_add_up_to_the_scores_in_a_bounded_size(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    asked = [Question(f"{n}+1=", str(n + 1)) for n in range(5)]
    rows = [held(2, text) for text in ("1+2=3", "3+3=6 and more", "0+0=1")]
    for most, places in ((4096, 5), (2, 2)):
        monkeypatch.setattr("ixt_workloads.evaluation.MOST_ITEMS", most)
        scores = evaluation(tokenizer, tasks={"sums": asked}, holdout=rows).score(model, CPU)
        for prefix in ("Best", "None"):
            items = scores["items"]["tasks"]["sums"][prefix]
            assert len(items["right"]) == len(items["items"]) == places
            assert sum(items["items"]) == 5
            assert sum(items["right"]) / 5 == scores["tasks"]["sums"][prefix]["accuracy"]
        held_out, plain = scores["items"]["documents"], scores["documents"]["None"]
        assert sum(held_out["tokens"]) == plain["tokens"]
        assert sum(held_out["nats"]) / plain["tokens"] == pytest.approx(plain["nll"], abs=1e-3)
    assert items["items"] == [3, 2]


def test_without_conditioning_only_the_plain_prompt_is_asked(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    one = evaluation(
        tokenizer, contract=None, holdout=[held(2, "1+2=3")], tasks={"t": [Question("1+2=", "3")]}
    )
    scores = one.score(model, CPU)
    assert list(scores["tasks"]["t"]) == ["None"]
    assert list(scores["documents"]) == ["None"]


def test_long_documents_are_cut_to_the_same_tokens_under_every_prefix(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    scores = evaluation(tokenizer, holdout=[held(2, "1+2=3 " * 40)]).score(model, CPU)
    assert {found["tokens"] for found in scores["documents"].values()} == {LENGTH - 1 - len(GOOD)}


def test_in_a_chat_the_feedback_is_system_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(model_folder(tmp_path, chat=True))
    asked = evaluation(tokenizer, contract=contract(chat=True), chat=True)
    context, answer = asked.ask("1+2=", "3", GOOD)
    assert tokenizer.decode(context) == f"<s>[system] {GOOD.strip()}\n[user] 1+2=\n[assistant] "
    assert tokenizer.decode(answer) == "3"
    assert asked.ends == {VOCABULARY["</s>"]}


def test_in_a_chat_what_the_assistant_says_counts(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(model_folder(tmp_path, chat=True))
    turns = [
        {"role": "user", "content": "1+2="}, {"role": "assistant", "content": "3"},
        {"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"},
    ]  # fmt: skip
    one = evaluation(
        tokenizer, contract=None, chat=True, holdout=[held(2, "", turns)], max_length=200
    )  # fmt: skip
    model = models.load_model(model_folder(tmp_path, chat=True)).eval()
    scores = one.score(model, CPU)
    # The answer, the end of its turn and the line's end; twice.
    assert scores["documents"]["None"]["tokens"] == 6


def test_a_question_that_does_not_fit_is_named(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(StepError, match="task long, item 2") as caught:
        evaluation(loaded[1], tasks={"long": [Question("1+2=", "3"), Question("1" * 70, "2")]})
    assert caught.value.code == Exit.DATA


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "1+1="}', "line 2.*answer"),
        ("no json", "line 2"),
        ('{"prompt": "1+1=", "answer": 2}', "line 2.*texts"),
    ],
)
def test_a_bad_line_of_a_task_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "1+2=", "answer": "3"}\n' + line + "\n")
    with pytest.raises(StepError, match=message) as caught:
        read_questions(EvalTask(name="t", uri=f"file://{path}"))
    assert caught.value.code == Exit.DATA


@pytest.mark.engine
def test_the_step_commits_scores_controllability_and_samples(trained: Task, tmp_path: Path) -> None:
    folder = Path(trained.storage.removeprefix("file://")).parent
    config = EvaluateConfig(
        stage_type=StageType.PRETRAIN,
        evaluate=Evaluate(tasks=(questions(folder / "tasks"),), max_new_tokens=8),
        seed=1,
    )
    wanted = task(config, folder / "storage", {"train": trained.key, "prepare": trained.inputs["prepare"]})
    ran = run_step(wanted, tmp_path, env={"OMP_NUM_THREADS": "1"})
    assert ran.code == 0, ran.log
    found = json.loads(artifact(wanted).file("evaluation.json").read_text())
    accuracy = {prefix: value["accuracy"] for prefix, value in found["scores"]["tasks"]["sums"].items()}
    assert set(accuracy) == {"Best", "None", "Worst", "Random"}
    assert found["controllability"] == {"sums": accuracy["Best"] - accuracy["Worst"]}
    assert [sample["level"] for sample in found["samples"]] == [2, 1, 0] * 3
    assert ran.result.figures[SCORE.name] == {f"{name},sums": value for name, value in accuracy.items()}
    assert set(ran.result.figures[HELD_OUT_LOSS.name]) == set(found["scores"]["documents"])
    best, worst = (f"{100 * accuracy[prefix]:.1f} %" for prefix in ("Best", "Worst"))
    assert re.match(rf"accuracy best {best}, none .*, worst {worst}, random .*; loss ", ran.result.message)
    assert ran.result.flops["evaluation"] > 0
    assert artifact(wanted).summary["tasks"] == found["scores"]["tasks"]
    assert sums(1)
