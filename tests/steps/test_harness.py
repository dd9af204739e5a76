"""Tasks of lm-evaluation-harness: what the model is asked, what is scored, what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from make.harness import KNOWN, tiny_tasks
from make.models import VOCABULARY, model_folder
from make.prepared import BAD, GOOD, contract, prepared
from make.tasks import run_here, task
from make.training import artifact, train_here, train_task

from ixt_workloads import models
from ixt_workloads.asking import Asker
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exported import EvalQuestion
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.settings import EvalPrefix, Evaluate, Harness, HarnessTask, StageType
from ixt_workloads.evaluation import Evaluation
from ixt_workloads.harness import asked as module
from ixt_workloads.harness.again import evaluate as ask_again
from ixt_workloads.harness.asked import Asked
from ixt_workloads.harness.engines import Pair, Prompt
from ixt_workloads.harness.sandbox import sandboxed
from ixt_workloads.harness.tasks import loaded
from ixt_workloads.tokenizer import load_tokenizer

BEST_AND_WORST = (EvalPrefix.BEST, EvalPrefix.WORST)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A model that has learnt right and wrong answers to the tiny tasks."""
    folder = tmp_path_factory.mktemp("trained")
    wanted = train_task(folder, steps=80, key=prepared(folder / "storage", KNOWN * 40), learning_rate="5e-3")
    train_here(wanted)
    return wanted


RIGHT = {"tiny_gsm": "3", "tiny_math": "6", "tiny_code": "7"}
PROMPTS = {"tiny_gsm": "1+2=", "tiny_math": "2*3=", "tiny_code": "def f(): return"}


def written(trained: Task, prefix: str) -> dict[str, str]:
    """What the model itself goes on with after each task's question, greedily."""
    with models.gathered(artifact(trained)) as folder:
        asker, model = Asker(folder), models.load_model(folder).eval()
    found = {}
    for name, prompt in PROMPTS.items():
        ids = torch.tensor([asker.ids(prompt, "best" if prefix == "Best" else 1)])
        made = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=VOCABULARY["</s>"])
        text = asker.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=False)
        found[name] = text.partition("</s>")[0].partition("\n")[0].strip()
    return found


def config(tasks: tuple[HarnessTask, ...], **fields: Any) -> EvaluateConfig:
    harness = Harness(tasks=tasks, **fields)
    wanted = Evaluate(harness=harness, prefixes=BEST_AND_WORST, holdout_documents=0, max_new_tokens=4)
    return EvaluateConfig(stage_type=StageType.PRETRAIN, evaluate=wanted, seed=1)


def pin_of(*tasks: HarnessTask, chat: bool = False, **fields: Any) -> str:
    with sandboxed(), loaded(Harness(tasks=tasks, **fields), chat=chat) as found:
        return found.pin


def test_the_step_keeps_scores_and_items_under_each_prefix(trained: Task, tmp_path: Path) -> None:
    tasks = tiny_tasks(tmp_path)
    inputs = {"train": trained.key, "prepare": trained.inputs["prepare"]}
    wanted = task(config(tasks), trained.storage, inputs, pins={"harness": pin_of(*tasks)})
    said = run_here(wanted).message
    right = {prefix: written(trained, prefix) for prefix in ("Best", "Worst")}
    made = artifact(wanted)
    found = made.read_json("harness.json")
    shown = {name: told["Best"]["metric"] for name, told in found["tasks"].items()}
    assert shown == {
        "tiny_choice": "acc,none",
        "tiny_code": "pass@1,create_test",
        "tiny_gsm": "exact_match,strict-match",
        "tiny_math": "exact_match,none",
    }
    scores = made.summary["harness"]
    choice = scores.pop("tiny_choice")
    assert scores == {
        name: {prefix: float(right[prefix][name] == answer) for prefix in right}
        for name, answer in RIGHT.items()
    }
    assert {0.0, 1.0} == {value for asked in scores.values() for value in asked.values()}
    best = [*(asked["Best"] for asked in scores.values()), choice["Best"]]
    assert f"harness best {100 * fmean(best):.1f} %, worst " in said
    assert found["items"]["tasks"]["tiny_code"] == {
        "Best": {"right": [scores["tiny_code"]["Best"]], "items": [1]}
    }
    rows = [json.loads(line) for line in made.file("harness.jsonl").read_text().splitlines()]
    answers = {(row["task"], row["prefix"]): row["answer"].strip() for row in rows}
    for prefix, each in right.items():
        for name in ("tiny_gsm", "tiny_math"):
            assert answers[name, prefix] == each[name]


def test_asked_again_it_is_not_asked(trained: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gsm, *_ = tiny_tasks(tmp_path)
    values = {
        "storage": trained.storage,
        "train": trained.key,
        "name": "one@pretrain",
        "run": "r",
        "run_uid": "u",
    }
    question = EvalQuestion(config=config((gsm,), samples=2), **values)
    first = [*ask_again(question)]
    assert first[0].split() == ["task", "metric", "items", "best", "worst"]
    assert first[1].split()[:3] == ["tiny_gsm", "exact_match,strict-match", "1"]
    monkeypatch.setattr("ixt_workloads.harness.again.ask_loaded", None)
    second = [*ask_again(question)]
    assert second[:2] == first[:2]
    assert second[2] == first[2].replace("one@pretrain", "one@pretrain (asked before)")
    with pytest.raises(TypeError):  # other settings have another key
        list(ask_again(EvalQuestion(config=config((gsm,), samples=3), **values)))
    Path(gsm.uri.removeprefix("file://"), "test.jsonl").write_text(
        '{"question": "2+2=", "answer": "#### 4"}\n'
    )
    with pytest.raises(TypeError):  # and so has other content
        list(ask_again(question))


class Recorder:
    """An engine that answers nothing and remembers what it was asked."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def score(self, pairs: list[Pair], beat: Any) -> list[tuple[float, bool]]:
        self.said += pairs
        return [(0.0, True)] * len(pairs)

    def write(self, prompts: list[Prompt], draw: int, beat: Any) -> list[tuple[str, int]]:
        self.said += [(ids, []) for ids, _ in prompts]
        return [("", 0)] * len(prompts)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Any]:
    """What the engine reads of requests, as text, of a model of texts or of conversations."""

    def made(
        requests: list[Instance], *, chat: bool, most: int = 512, prefix: EvalPrefix = EvalPrefix.BEST
    ) -> Any:
        tokenizer = load_tokenizer(model_folder(tmp_path / str(chat), chat=chat))
        evaluation = Evaluation(
            tokenizer, contract(chat=chat), (), {}, tuple(EvalPrefix), chat=chat, max_length=most, seed=0
        )
        recorder = Recorder()
        asked = Asked(evaluation, most, lambda done: None)
        asked.scorer = asked.writer = recorder  # type: ignore[assignment]
        asked.prefix = prefix
        getattr(asked, requests[0].request_type)(requests)
        return [(tokenizer.decode(context), tokenizer.decode(said)) for context, said in recorder.said]

    return made


def request(kind: Any, *arguments: Any, doc: int = 0) -> Instance:
    return Instance(kind, {}, arguments, 0, metadata=("t", doc, 1))


def test_every_request_gets_the_prefix(recorded: Any) -> None:
    text = [request("loglikelihood", "1+2=", " 3"), request("loglikelihood", "", "3")]
    assert recorded(text, chat=False) == [(f"<s>{GOOD}1+2=", " 3"), (f"<s>{GOOD}", "3")]
    assert recorded([request("loglikelihood_rolling", "1+2=3")], chat=False) == [(f"<s>{GOOD}", "1+2=3")]
    write = [request("generate_until", "1+2=", {"until": ["\n"]})]
    assert recorded(write, chat=False, prefix=EvalPrefix.WORST) == [(f"<s>{BAD}1+2=", "")]
    assert recorded(write, chat=False, prefix=EvalPrefix.NONE) == [("<s>1+2=", "")]
    turns = [{"role": "user", "content": "1+2?"}]
    conversation = module.Turns(json.dumps(turns))
    begun = module.Turns(json.dumps([*turns, {"role": "assistant", "content": "It is "}]))
    shown = f"<s>[system] {GOOD.strip()}\n[user] 1+2?\n[assistant] "
    assert recorded([request("loglikelihood", conversation, "3")], chat=True) == [(shown, "3")]
    assert recorded([request("generate_until", conversation, {})], chat=True) == [(shown, "")]
    assert recorded([request("loglikelihood", begun, "3")], chat=True) == [(f"{shown}It is ", "3")]
    # All answers to choose from stand after the same prefix, also where it is drawn.
    drawn = [request("loglikelihood", "q", answer, doc=doc) for doc in range(8) for answer in "ab"]
    contexts = [context for context, _ in recorded(drawn, chat=False, prefix=EvalPrefix.RANDOM)]
    assert contexts[::2] == contexts[1::2]
    assert len(set(contexts)) == 2


def test_what_does_not_fit_loses_its_beginning_but_no_prefix(recorded: Any) -> None:
    long = "x" * 100 + "1+2="
    (context, said), *_ = recorded([request("loglikelihood", long, "3")], chat=False, most=40)
    assert context.startswith(f"<s>{GOOD}x")
    assert context.endswith("x1+2=")
    assert said == "3"
    conversation = module.Turns(json.dumps([{"role": "user", "content": long}]))
    assert recorded([request("generate_until", conversation, {})], chat=True, most=40) == []


def test_the_harness_itself_asks_exports_as_the_docs_say(trained: Task) -> None:
    """docs/models.md: what lm-eval's own model of transformers reads of an exported folder."""
    from lm_eval.models.huggingface import HFLM

    with models.gathered(artifact(trained)) as folder:
        words = load_tokenizer(folder).decode
        asking = HFLM(pretrained=str(folder), device="cpu", batch_size=1)
        plain = HFLM(pretrained=str(folder), device="cpu", batch_size=1, add_bos_token=False)
    context, said = asking._encode_pair("1+2=", "3")
    assert (words(context), words(said)) == (f"<s>{GOOD}1+2=", "3")
    answers, _ = asking.tok_batch_encode(["1+2="])
    assert words(answers[0]) == f"<s>{GOOD}1+2="
    assert words(asking.tok_encode("1+2=3")).startswith(f"<s>{GOOD}"), "which is scored as text when rolling"
    assert words(plain._encode_pair("1+2=", "3")[0]) == "1+2="
    assert words(plain.tok_encode("1+2=3")) == "1+2=3"
