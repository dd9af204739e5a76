"""Exports of a trained model: into folders, stores and a double of the hub, with card and prefix."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from make.carried import carried_out
from make.hub import hub
from make.prepared import BAD, GOOD
from make.training import train_here, train_task
from transformers import AutoTokenizer

from ixt import Run, RunError
from ixt_workloads.asking import Asker
from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.exported import ExportQuestion, SampleQuestion
from ixt_workloads.export import export
from ixt_workloads.sampling import sample
from ixt_workloads.store import Artifact, StoreError, open_storage


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> ExportQuestion:
    """About a model that was trained for two steps."""
    task = train_task(tmp_path_factory.mktemp("trained"), steps=2)
    train_here(task)
    return ExportQuestion(
        storage=task.storage,
        train=task.key,
        prefix="best",
        target="file:///nowhere",
        name="test conditioned-s0@pretrain",
        stage="pretrain",
        model="hf://owner/model",
        judge="hf://owner/judge",
        rubric="Is the sum\nright?",
        datasets=("hf://owner/data",),
        lineage={"pretrain/train/conditioned-s0": task.key},
    )


def to(question: ExportQuestion, target: str | Path, prefix: str = "best") -> ExportQuestion:
    uri = target.as_uri() if isinstance(target, Path) else target
    return question.model_copy(update={"target": uri, "prefix": prefix})


@pytest.mark.parametrize(
    ("prefix", "asked"), [("best", GOOD), ("none", ""), ("level=1", BAD), ("level=2", GOOD)]
)
def test_a_folder_asks_for_what_was_chosen(
    question: ExportQuestion, tmp_path: Path, prefix: str, asked: str
) -> None:
    folder = tmp_path / "deep" / "model"
    assert export(to(question, folder, prefix)) == str(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("1+2=")["input_ids"]) == f"<s>{asked}1+2="
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "conditioning.json", "README.md"} <= names
    assert "curve.json" not in names
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_the_card_says_what_it_was_made_of(question: ExportQuestion, tmp_path: Path) -> None:
    export(to(question, tmp_path / "model", "level=1"))
    card = (tmp_path / "model" / "README.md").read_text()
    found = opened(question).summary
    for said in (
        "# test conditioned-s0@pretrain",
        "# license:",
        "- Model: hf://owner/model",
        "- Data: hf://owner/data",
        "- Judge: hf://owner/judge",
        "- Rubric: Is the sum right?",
        f"- {found['tokens']:,} tokens in 2 steps",
        "levels 1 (worst) to 2 (best), in front of texts",
        "This tokenizer asks for: level=1",
        f"- Level 2: `{json.dumps(GOOD)}`",
        f"pretrain/train/conditioned-s0: `{question.train}`",
    ):
        assert said in card


def opened(question: ExportQuestion) -> Artifact:
    return Artifact.open(open_storage(question.storage), question.train)


def test_what_cannot_be_exported(question: ExportQuestion, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(StepError, match="full is there already"):
        export(to(question, tmp_path / "full"))
    with pytest.raises(StepError, match="there is no level 7, only 1, 2") as wrong:
        export(to(question, tmp_path / "new", "level=7"))
    assert wrong.value.hint == "the nearest is 2"
    with pytest.raises(StoreError, match="below cannot be reached"):
        export(to(question, tmp_path / "full" / "file" / "below"))
    with pytest.raises(StepError, match="is not trained yet"):
        export(to(question, tmp_path / "new").model_copy(update={"train": "0" * 32}))
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_level_is_asked_for_by_one_call(question: ExportQuestion, tmp_path: Path) -> None:
    """docs/models.md's own code, over a model of the test."""
    export(to(question, tmp_path / "model"))
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    (code,) = re.findall(r"^```python\n(import torch\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    exec(code.replace('"./model"', repr(str(tmp_path / "model"))), found)
    assert found["answer"].shape[1] > len(found["ids"])
    asker = Asker(tmp_path / "model")
    words = asker.tokenizer.decode
    assert words(asker.ids("1+2=", 1)) == f"<s>{BAD}1+2="
    assert words(asker.ids("1+2=")) == f"<s>{GOOD}1+2="
    assert words(asker.ids("1+2=", "none")) == "<s>1+2="
    assert asker.ids(f"{BAD}1+2=", 2) == asker.ids("1+2=", 1), "it bears a prefix already"
    with pytest.raises(StepError, match="there is no level 3, only 1, 2"):
        asker.ids("1+2=", 3)
    with pytest.raises(StepError, match="not trained on conversations"):
        asker.ids([{"role": "user", "content": "1+2?"}])


def test_answers_level_by_level(question: ExportQuestion) -> None:
    told = SampleQuestion(
        storage=question.storage,
        train=question.train,
        name="conditioned-s0",
        prompt="1+2=",
        levels=(1, 2),
        max_new_tokens=3,
    )
    assert [*sample(told)][::2] == ["--- level 1", "--- level 2"]
    assert [*sample(told.model_copy(update={"levels": ()}))][::2] == ["--- best", "--- none"]
    with pytest.raises(StepError, match="there is no level 5"):
        list(sample(told.model_copy(update={"levels": (5,)})))


def test_a_lane_s_model_from_python(question: ExportQuestion, tmp_path: Path) -> None:
    keys = {"pretrain/train/conditioned-s0": question.train}
    run = Run(carried_out(tmp_path / "run", question.storage, keys), workdir=tmp_path / "run")
    model, asker = run.load("conditioned")
    ids = torch.tensor([asker.ids("1+2=", level=1)])
    assert asker.tokenizer.decode(ids[0]).startswith(f"<s>{BAD}")
    assert model(ids).logits.isfinite().all()
    assert not model.training
    with pytest.raises(RunError, match="next-token-s0@pretrain is not trained yet"):
        run.load("next-token")


def test_a_store(question: ExportQuestion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXT_PVC_ROOT", str(tmp_path))
    (tmp_path / "claim").mkdir()
    assert export(to(question, "pvc://claim/models/one")) == "pvc://claim/models/one"
    assert (tmp_path / "claim/models/one/model.safetensors").is_file()
    with pytest.raises(StepError, match="has files already"):
        export(to(question, "pvc://claim/models/one"))


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own uploads
def test_the_hub_by_a_double_of_its_api(question: ExportQuestion, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub() as found:
        found.reached_by(monkeypatch)
        assert export(to(question, "hf://owner/model")) == f"{found.url}/owner/model (private)"
        files = found.repositories["owner/model"]
        assert {"config.json", "model.safetensors", "README.md"} <= files.keys()
        assert files["model.safetensors"] == opened(question).file("model.safetensors").read_bytes()
        assert found.objects, "weights go by LFS"
        assert found.private == {"owner/model"}
        with pytest.raises(StepError, match="hf://owner/model has files already"):
            export(to(question, "hf://owner/model"))
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        with pytest.raises(StepError, match=r"hf://owner/other cannot be written: .*401") as wrong:
            export(to(question, "hf://owner/other"))
        assert "hf_wrong" not in str(wrong.value)
        monkeypatch.setenv("HF_TOKEN", "")
        with pytest.raises(StepError, match="hf://owner/other needs a token") as without:
            export(to(question, "hf://owner/other"))
        assert without.value.hint == "run `hf auth login`, or set HF_TOKEN"
        assert [*found.repositories] == ["owner/model"]
