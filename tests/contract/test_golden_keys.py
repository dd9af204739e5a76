"""Keys never change by accident: artifacts of years would be made again.

golden/keys.json holds the key of every config in `CONFIGS` below. It may only grow. After a new field, a new
default or a renaming, the keys here must be as they were; where one is meant to change, bump its kind in
`ixt_workloads.contract.kinds.KINDS`, say so in the changelog, and take the old entry out of both.
To add one: put a config under a new name into CONFIGS, run the test, and copy the line that it prints.
"""

import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ixt_workloads.contract import configs, settings
from ixt_workloads.contract.keys import canonical, key_of, mark_of, preimage
from ixt_workloads.contract.kinds import KINDS, LONGEST_SHORT
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS, DocumentForm, RubricText

FILE = Path(__file__).parents[1] / "golden" / "keys.json"

QUALITY = BUILTIN_RUBRICS["quality"]
SHORT = RubricText(instructions="Score it.", ideal_critique="Good.", worst_critique="Bad.")
BARE = SHORT.model_copy(update={"document": DocumentForm.BARE})
DATASET = settings.Dataset(name="web", uri="s3://bucket/web")
CHAT = settings.Dataset(
    name="chat", uri="hf://o/n", format=settings.DataFormat.PARQUET, messages_field="messages", weight=50
)
EXISTING = settings.ExistingFeedback(score_field="score", critique_field="words")
TRAIN = settings.Train(max_tokens=1_000_000)
FULL_TRAIN = settings.Train(
    max_tokens=2_000_000,
    batch_tokens=65_536,
    optimizer=settings.Optimizer(
        learning_rate="1e-3",
        weight_decay="0.01",
        beta1="0.8",
        beta2="0.99",
        epsilon="1e-6",
        max_grad_norm="0.5",
    ),
    schedule=settings.Schedule(
        type=settings.ScheduleType.WARMUP_STABLE_DECAY, warmup_percent=1, decay_percent=30, final_percent=0
    ),
    precision=settings.Precision.FP32,
    eval_every_tokens=100_000,
)
TASK = settings.EvalTask(name="sums", uri="file:///sums.jsonl", max_items=50)
EVALUATE = settings.Evaluate(
    tasks=(TASK,),
    prefixes=(settings.EvalPrefix.BEST, settings.EvalPrefix.NONE),
    holdout_documents=64,
    max_new_tokens=8,
)
HARNESS = settings.Harness(
    tasks=(settings.HarnessTask(name="gsm8k"), settings.HarnessTask(name="own", uri="file:///own")),
    limit=100,
    fewshot=4,
    samples=2,
)
CONDITIONING = settings.Conditioning(
    format=settings.FeedbackFormat.CRITIQUE,
    levels=3,
    calibration=settings.Calibration.QUANTILE,
    dropout_percent=5,
    max_feedback_tokens=64,
    loss_on_feedback=settings.LossOnFeedback.MASK,
    inference_feedback="Perfect.",
)
LANE = configs.ReportLane(
    stage="a",
    stage_type=settings.StageType.PRETRAIN,
    arm="conditioned",
    method=settings.Method.CONDITIONED,
    seed=0,
    inventory="a/inventory",
    annotate=("a/annotate/0-15",),
    holdout="a/annotate/holdout",
    prepare="a/prepare/conditioned",
    train="a/train/conditioned-s0",
    evaluate="a/evaluate/conditioned-s0",
)

CONFIGS: dict[str, tuple[configs.Config, dict[str, str]]] = {
    "inventory": (configs.InventoryConfig(datasets=(DATASET,)), {"datasets": "pin"}),
    "inventory-full": (
        configs.InventoryConfig(
            datasets=(DATASET, CHAT), existing=EXISTING, holdout_documents=64, tasks=(TASK,)
        ),
        {"datasets": "pin"},
    ),
    "annotate": (
        configs.AnnotateConfig(
            judge=settings.Judge(source="s3://bucket/judge", rubric=QUALITY), to_percent=15
        ),
        {"inventory": "a", "judge": "pin"},
    ),
    "annotate-full": (
        configs.AnnotateConfig(
            judge=settings.Judge(
                model="gpt",
                rubric=SHORT,
                sampling=settings.Sampling(temperature="0.70", top_p="0.9", max_tokens=512, retries=0),
                reasoning_parser="deepseek_r1",
            ),
            gates=settings.Gates(max_invalid_percent=5, max_overlap_percent=20),
            from_percent=15,
            to_percent=50,
        ),
        {"inventory": "a", "judge": "pin"},
    ),
    "annotate-told": (
        configs.AnnotateConfig(
            judge=settings.Judge(
                rubric=SHORT,
                sampling=settings.Sampling(top_k=20, min_p="0.1", presence_penalty="1.5", thinking_tokens=64),
                system_prompt="You judge.",
                chat_template_kwargs=(settings.ChatTemplateKwarg(name="enable_thinking", value="false"),),
                engine_args=("--dtype=half",),
            )
        ),
        {"inventory": "a", "judge": "pin"},
    ),
    "annotate-bare": (
        configs.AnnotateConfig(judge=settings.Judge(rubric=BARE)),
        {"inventory": "a", "judge": "pin"},
    ),
    "annotate-existing": (configs.AnnotateConfig(), {"inventory": "a"}),
    "annotate-holdout": (
        configs.AnnotateConfig(judge=settings.Judge(rubric=QUALITY), holdout=True),
        {"inventory": "a", "judge": "pin"},
    ),
    "generate": (
        configs.GenerateConfig(
            generation=settings.Generation(), round=1, seed=0, model=settings.ModelSource(source="hf://o/n")
        ),
        {"prompts": "a", "policy": "b", "tokenizer": "pin"},
    ),
    "generate-full": (
        configs.GenerateConfig(
            generation=settings.Generation(
                samples_per_prompt=8,
                prompts_per_round=1000,
                temperature="0.7",
                top_p="0.95",
                top_k=20,
                max_tokens=512,
                sampling_feedback=settings.SamplingFeedback.MIX,
            ),
            round=3,
            seed=7,
            engine_args=("--dtype=half",),
            model=settings.ModelSource(source="hf://o/n"),
        ),
        {"prompts": "a", "model": "pin", "tokenizer": "pin"},
    ),
    "prepare": (
        configs.PrepareConfig(
            stage_type=settings.StageType.PRETRAIN,
            method=settings.Method.CONDITIONED,
            conditioning=settings.Conditioning(loss_on_feedback=settings.LossOnFeedback.INCLUDE),
            prepare=settings.Prepare(),
            rubric=QUALITY,
            tokenizer=settings.ModelSource(source="hf://o/n"),
        ),
        {"inventory": "a", "tokenizer": "pin", "feedback/0-15": "b"},
    ),
    "prepare-seeded": (
        configs.PrepareConfig(
            stage_type=settings.StageType.PRETRAIN,
            method=settings.Method.SHUFFLED,
            conditioning=settings.Conditioning(loss_on_feedback=settings.LossOnFeedback.INCLUDE),
            prepare=settings.Prepare(),
            rubric=QUALITY,
            seed=1,
            tokenizer=settings.ModelSource(source="hf://o/n"),
        ),
        {"inventory": "a", "tokenizer": "pin", "feedback/0-15": "b"},
    ),
    "prepare-full": (
        configs.PrepareConfig(
            stage_type=settings.StageType.SFT,
            method=settings.Method.SHUFFLED,
            conditioning=CONDITIONING,
            prepare=settings.Prepare(sequence_length=512),
            tokenizer=settings.ModelSource(source="hf://o/n"),
        ),
        {"inventory": "a", "tokenizer": "pin"},
    ),
    "train": (
        configs.TrainConfig(
            stage_type=settings.StageType.PRETRAIN, train=TRAIN, seed=0, evaluate=settings.Evaluate()
        ),
        {"prepare": "a", "model": "pin"},
    ),
    "train-full": (
        configs.TrainConfig(
            stage_type=settings.StageType.MIDTRAIN,
            train=FULL_TRAIN,
            seed=7,
            anneal_percent=10,
            evaluate=EVALUATE,
        ),
        {"prepare": "a", "parent": "b", "tasks": "pin"},
    ),
    "train-best": (
        configs.TrainConfig(
            stage_type=settings.StageType.PRETRAIN,
            train=settings.Train(max_tokens=1_000_000, export=settings.Export.BEST),
            seed=0,
            evaluate=settings.Evaluate(),
        ),
        {"prepare": "a", "model": "pin"},
    ),
    "evaluate": (
        configs.EvaluateConfig(stage_type=settings.StageType.PRETRAIN, evaluate=settings.Evaluate(), seed=0),
        {"train": "a", "prepare": "b"},
    ),
    "evaluate-full": (
        configs.EvaluateConfig(stage_type=settings.StageType.SFT, evaluate=EVALUATE, seed=7),
        {"train": "a", "prepare": "b", "tasks": "pin"},
    ),
    "evaluate-harness": (
        configs.EvaluateConfig(
            stage_type=settings.StageType.PRETRAIN, evaluate=settings.Evaluate(harness=HARNESS), seed=0
        ),
        {"train": "a", "harness": "pin"},
    ),
    "report": (configs.ReportConfig(lanes=(LANE,)), {"a/train/conditioned-s0": "a"}),
}


def key(name: str) -> str:
    config, inputs = CONFIGS[name]
    return key_of(preimage(config, KINDS[config.kind].version, inputs))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_key_is_what_it_always_was(name: str) -> None:
    golden = json.loads(FILE.read_text())
    assert name in golden, f'add to {FILE.name}: "{name}": "{key(name)}"'
    assert key(name) == golden[name]


def test_no_golden_key_is_left_out() -> None:
    assert json.loads(FILE.read_text()).keys() <= CONFIGS.keys()


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation holds, and those in their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for part in typing.get_args(annotation):
        yield from models(part)


MODELS = sorted(
    {model for kind in KINDS.values() for model in models(kind.config)}, key=lambda model: model.__name__
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_says_once_whether_it_is_in_the_key(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        mark_of(field, f"{model.__name__}.{name}")


def test_every_kind_has_a_golden_key() -> None:
    missing = KINDS.keys() - {config.kind for config, _ in CONFIGS.values()}
    assert not missing, f"add a config of {missing} to CONFIGS, and its key to golden/keys.json"


def test_every_kind_has_a_row_that_fits() -> None:
    for name, kind in KINDS.items():
        assert kind.config.kind == name, f"the config of {name} names another kind"
        for short in (kind.short, kind.server.short if kind.server else "server"):
            assert len(short) <= LONGEST_SHORT, f"{short} is too long for names of children"
    shorts = [kind.short for kind in KINDS.values()]
    assert len(set(shorts)) == len(shorts)


def test_a_number_is_one_value_however_it_is_written() -> None:
    written = [settings.Optimizer(learning_rate=text) for text in ("1e-3", "0.001", "0.0010", "10e-4")]
    assert {json.dumps(canonical(one)) for one in written} == {'{"learningRate": "0.001"}'}
    assert canonical(settings.Optimizer(learning_rate="0.0003")) == {}
