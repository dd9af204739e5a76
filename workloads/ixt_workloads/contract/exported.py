"""What `ixt export`, `ixt sample` and `ixt eval` ask for."""

from pydantic import Field

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.configs import EvaluateConfig


class ExportQuestion(Model):
    """A trained model, and where it goes. The fields below `target` are for its card."""

    storage: str
    train: str
    """Key of the training."""
    prefix: str = Field(pattern=r"^(best|none|level=\d{1,2})$")
    """What the tokenizer asks for of itself."""
    target: str
    """URI: file:///folder, s3://bucket/prefix, gs://bucket/prefix or hf://owner/name."""
    name: str
    """Run, stage and lane."""
    evaluate: str | None = None
    """Key of the evaluation, where there is one."""
    report: str | None = None
    """Key of the report, where there is one."""
    stage: str
    model: str
    """Place of the model that the run started with."""
    judge: str = ""
    rubric: str = ""
    """What the judge was asked."""
    datasets: tuple[str, ...] = ()
    """Places of the data, of this and earlier stages."""
    lineage: dict[str, str] = {}
    """Keys of the artifacts that it was made of, by node."""


class SampleQuestion(Model):
    """What `ixt sample` asks a trained model."""

    storage: str
    train: str
    """Key of the training."""
    name: str
    prompt: str
    levels: tuple[int, ...] = ()
    """None: the best, and no prefix."""
    max_new_tokens: int = Field(default=128, ge=1, le=8192)


class EvalQuestion(Model):
    """What `ixt eval` asks a trained model."""

    storage: str
    train: str
    """Key of the training."""
    name: str
    config: EvaluateConfig
    """With a harness, and nothing else to be evaluated."""
    run: str
    """Name of the run."""
    run_uid: str
