"""Exports into a real S3 server, of a model that was invented."""

from pathlib import Path

import pytest
from make.lanes import BASIC, invent

from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.exported import ExportQuestion
from ixt_workloads.export import export
from ixt_workloads.store import Artifact, NotFound, StoreError, open_store

from .conftest import BUCKET, Server


@pytest.fixture
def question(tmp_path: Path) -> ExportQuestion:
    made = invent(tmp_path / "runs", BASIC[1:], points=2, documents=40)
    return ExportQuestion(
        storage=made.storage.as_uri(),
        train=made.inputs["pretrain/train/conditioned-s0"],
        evaluate=made.inputs["pretrain/evaluate/conditioned-s0"],
        prefix="best",
        target=f"s3://{BUCKET}/models/one",
        name="test conditioned-s0@pretrain",
        stage="pretrain",
        model="hf://owner/model",
    )


def test_a_bucket_gets_the_whole_model(s3: Server, question: ExportQuestion) -> None:
    assert export(question) == question.target
    trained = Artifact.open(open_store(question.storage), question.train)
    files = {path.name: path for path in (s3.bucket / "models" / "one").iterdir()}
    assert files.keys() == {*trained.paths} - {"curve.json"} | {"README.md"}
    for name in trained.paths:
        assert name == "curve.json" or files[name].read_bytes() == trained.file(name).read_bytes()
    card = files["README.md"].read_text()
    scores = Artifact.open(open_store(question.storage), question.evaluate or "").read_json("evaluation.json")
    for prefix, found in scores["scores"]["tasks"]["sums"].items():
        assert f"| sums | {prefix} | {found['accuracy']:.3f} |" in card
    with pytest.raises(StepError, match=f"{question.target} has files already"):
        export(question)


def test_a_bucket_that_is_not_there_or_not_ones_own(
    s3: Server, question: ExportQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((NotFound, StoreError), match="not-there"):
        export(question.model_copy(update={"target": "s3://not-there/one"}))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a wrong one")
    with pytest.raises(StoreError) as refused:
        export(question.model_copy(update={"target": f"s3://{BUCKET}/models/two"}))
    assert "a wrong one" not in str(refused.value)
    assert not (s3.bucket / "models" / "two").exists()
