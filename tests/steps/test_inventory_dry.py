"""What cannot be trained is refused by Inventory, before anything is paid for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from make.corpora import chat, dataset, inventory_task, jsonl, rows, texts
from make.models import CHAT_TEMPLATE, NO_SYSTEM, config_folder, model_folder, tokenizer_folder
from make.tasks import run_here

from ixt_workloads.contract.configs import (
    AnnotateConfig,
    GenerateConfig,
    InventoryConfig,
    PrepareConfig,
    TrainConfig,
)
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Node, Probe, Task
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS
from ixt_workloads.contract.settings import (
    Conditioning,
    Dataset,
    EvalTask,
    Evaluate,
    Generation,
    Judge,
    Method,
    ModelSource,
    Prepare,
    Sampling,
    StageType,
    Train,
)
from ixt_workloads.contract.trainer_pod import TRAINER_POD, TrainerPod


def stage(
    folder: Path, model: ModelSource, data: Dataset | None = None, *, length: int = 64, **config: Any
) -> Task:
    """An Inventory whose stage prepares for one arm and trains from a model."""
    data = data or dataset(jsonl(folder / "corpus.jsonl", rows(texts(20))))
    kind = StageType.SFT if data.messages_field else StageType.PRETRAIN
    own = {"stage": "stage", "version": 2}
    given = InventoryConfig(datasets=(data,), model=model, **config)
    nodes = (
        Node(kind="Inventory", config=given, inputs={"datasets": "pin:datasets"}, **own),
        Node(
            kind="Prepare",
            arm="a",
            config=PrepareConfig(
                stage_type=kind,
                method=Method.CONDITIONED,
                conditioning=Conditioning(),
                prepare=Prepare(sequence_length=length),
                tokenizer=model,
            ),
            inputs={"tokenizer": "pin:tokenizer"},
            **own,
        ),
        Node(
            kind="Train",
            arm="a",
            seed=1,
            config=TrainConfig(
                stage_type=kind, train=Train(max_tokens=10), seed=1, evaluate=Evaluate(), model=model
            ),
            inputs={"model": "pin:model"},
            **own,
        ),
    )
    return inventory_task(folder / "storage", data, probe=Probe(nodes=nodes), model=model, **config)


@pytest.mark.parametrize(
    ("pod", "said", "hint"),
    [
        ({"memory_bytes": 10**4}, "has 0.0 GB", "train on more ranks"),
        ({"gpus": 1}, "has 288.0 GB", "of GPUs whose nodes no nodeSelector names, the largest"),
        ({"gpus": 1, "gpu": "NVIDIA-A100-SXM4-80GB"}, "has 80.0 GB", "train on more ranks"),
    ],
)
def test_a_model_that_the_trainers_pods_cannot_hold(
    pod: dict[str, Any], said: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_folder(tmp_path / "tokenizer")
    model = config_folder(tmp_path / "config")
    if "gpus" in pod:
        config = json.loads((model / "config.json").read_text())
        config |= {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80}
        config |= {"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128}
        (model / "config.json").write_text(json.dumps(config))
    source = ModelSource(config=f"file://{model}", tokenizer=f"file://{tokenizer}")
    monkeypatch.setenv(TRAINER_POD, TrainerPod(**pod).model_dump_json())
    error = refused(stage(tmp_path, source))
    assert error.code is Exit.CONFIG
    assert "parameters do not fit: a rank would need" in error.message
    assert said in error.message
    assert hint in error.hint


def test_gpus_that_nobody_knows_are_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_folder(tmp_path / "model")
    monkeypatch.setenv(TRAINER_POD, TrainerPod(gpus=1, gpu="Z80").model_dump_json())
    assert run_here(stage(tmp_path, checkpoint(model))).key


def checkpoint(folder: Path) -> ModelSource:
    return ModelSource(source=f"file://{folder}")


def refused(job: Task) -> StepError:
    with pytest.raises(StepError) as caught:
        run_here(job)
    assert caught.value.hint and "\n" not in caught.value.message
    assert not list(Path(job.storage.removeprefix("file://")).glob("artifacts/**/*"))
    return caught.value


def changed(folder: Path, file: str, **fields: Any) -> None:
    path = folder / file
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**settings, **fields}))


BROKEN: dict[str, tuple[Callable[[Path], None], Exit, str]] = {
    "a generation config that cannot be saved": (
        lambda folder: changed(folder, "generation_config.json", do_sample=False, temperature=0.9, top_p=0.6),
        Exit.CONFIG,
        "cannot be saved again: GenerationConfig is invalid: - `temperature`: `do_sample` is not",
    ),
    "a config that transformers refuses": (
        lambda folder: changed(folder, "config.json", hidden_size=33),
        Exit.CONFIG,
        "The hidden size (33) is not a multiple of the number of attention heads (4)",
    ),
    "no causal language model": (
        lambda folder: changed(folder, "config.json", model_type="vit", architectures=["ViTModel"]),
        Exit.CONFIG,
        "is of a vit, of which transformers",
    ),
    "a rope that is not known": (
        lambda folder: changed(folder, "config.json", rope_parameters={"rope_type": "spiral"}),
        Exit.CONFIG,
        "config.json: KeyError: 'spiral'",
    ),
    "quantised weights": (
        lambda folder: changed(folder, "config.json", quantization_config={"quant_method": "fp8"}),
        Exit.CONFIG,
        "are quantised (fp8), which cannot be trained",
    ),
    "fewer layers than the weights have": (
        lambda folder: changed(folder, "config.json", num_hidden_layers=1),
        Exit.DATA,
        "hold 9 tensors that its config.json does not know, such as model.layers.1.",
    ),
    "weights of another width": (
        lambda folder: changed(folder, "config.json", intermediate_size=48),
        Exit.DATA,
        "do not fit its config.json",
    ),
    "a smaller vocabulary than the tokenizer's": (
        lambda folder: tokenizer_folder(folder, first=7) and None,
        Exit.CONFIG,
        "the tokenizer has 106 tokens, the model's vocab_size is 99",
    ),
    "a tokenizer of a newer library": (
        lambda folder: changed(folder, "tokenizer.json", pre_tokenizer={"type": "FutureThing"}),
        Exit.DATA,
        "cannot be read: data did not match any variant of untagged enum PreTokenizer",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_model_that_cannot_be_trained_is_refused_in_full(case: str, tmp_path: Path) -> None:
    spoil, code, message = BROKEN[case]
    folder = model_folder(tmp_path / "model")
    spoil(folder)
    error = refused(stage(tmp_path, checkpoint(folder)))
    assert (error.code, message in error.message) == (code, True), error.message


def test_sequences_longer_than_the_models_positions_are_refused(tmp_path: Path) -> None:
    error = refused(stage(tmp_path, checkpoint(model_folder(tmp_path / "model")), length=1024))
    assert error.message == "prepare.sequenceLength is 1024, the model has 512 positions"


def test_what_is_committed_is_not_loaded_again_and_what_is_not_is(tmp_path: Path) -> None:
    folder = config_folder(tmp_path / "model")
    model = ModelSource(
        config=f"file://{folder}", tokenizer=f"file://{tokenizer_folder(tmp_path / 'tokenizer')}"
    )
    job = stage(tmp_path, model)
    assert run_here(job).message == "18 documents, 2 more held out, 0 duplicates"
    changed(folder, "config.json", hidden_size=33)
    with pytest.raises(StepError, match="not a multiple of the number of attention heads"):
        run_here(job)


def judged(folder: Path, spoil: Callable[[Path], None], **settings: Any) -> Task:
    """An Inventory of a stage that a judge of our own annotates."""
    place = model_folder(folder / "judge", chat=True)
    changed(place, "config.json", max_position_embeddings=4096)
    spoil(place)
    judge = Judge(
        source=f"file://{place}", rubric=BUILTIN_RUBRICS["quality"], **{"sampling": Sampling(), **settings}
    )
    data = dataset(jsonl(folder / "corpus.jsonl", rows(texts(20))))
    own = {"stage": "stage", "version": 2}
    nodes = (
        Node(
            kind="Inventory",
            config=InventoryConfig(datasets=(data,), judge=judge),
            inputs={"datasets": "pin:datasets"},
            **own,
        ),
        Node(
            kind="Annotate",
            part="0-15",
            config=AnnotateConfig(judge=judge, to_percent=15),
            inputs={"judge": "pin:judge"},
            **own,
        ),
    )
    return inventory_task(folder / "storage", data, probe=Probe(nodes=nodes), judge=judge)


JUDGES: dict[str, tuple[Callable[[Path], object], dict[str, Any], Exit, str]] = {
    "no chat template": (
        lambda folder: (folder / "chat_template.jinja").unlink(),
        {},
        Exit.CONFIG,
        "has no chat template, so that it cannot be asked",
    ),
    "a template that takes no system text": (
        lambda folder: (folder / "chat_template.jinja").write_text(NO_SYSTEM),
        {"system_prompt": "You are strict."},
        Exit.CONFIG,
        "refuses what the judge is asked: System role not supported",
    ),
    "a config that transformers refuses": (
        lambda folder: changed(folder, "config.json", hidden_size=33),
        {},
        Exit.CONFIG,
        "The hidden size (33) is not a multiple of the number of attention heads (4)",
    ),
    "a tokenizer of a newer library": (
        lambda folder: changed(folder, "tokenizer.json", pre_tokenizer={"type": "FutureThing"}),
        {},
        Exit.DATA,
        "cannot be read: data did not match any variant of untagged enum PreTokenizer",
    ),
    "a generation config that is none": (
        lambda folder: changed(folder, "generation_config.json", do_sample=False, temperature=0.9),
        {},
        Exit.CONFIG,
        "cannot be saved again: GenerationConfig is invalid",
    ),
    "a context that no answer fits into": (
        lambda folder: None,
        {"sampling": Sampling(max_tokens=4096)},
        Exit.CONFIG,
        "tokens, the judge has 4,096 positions",
    ),
}


@pytest.mark.parametrize("case", JUDGES)
def test_a_judge_that_cannot_be_asked_is_refused_in_full(case: str, tmp_path: Path) -> None:
    spoil, settings, code, message = JUDGES[case]
    error = refused(judged(tmp_path, lambda folder: spoil(folder) and None, **settings))
    assert (error.code, message in error.message) == (code, True), error.message


def test_a_judge_that_can_be_asked_is_taken(tmp_path: Path) -> None:
    assert run_here(judged(tmp_path, lambda _: None)).message == "18 documents, 2 more held out, 0 duplicates"
    # Its server is given another template than the tokenizer's.
    other = judged(
        tmp_path / "other",
        lambda folder: (folder / "chat_template.jinja").unlink(),
        engine_args=("--chat-template=/templates/judge.jinja",),
    )
    assert run_here(other).message


ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}" + CHAT_TEMPLATE
)
LIKE_GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + ALTERNATE
)


def talks(folder: Path, *conversations: Any) -> Dataset:
    path = jsonl(folder / "c.jsonl", [{"messages": turns} for turns in conversations])
    return dataset(path, "chats", messages_field="messages")


def chatty(folder: Path, template: str) -> ModelSource:
    model = model_folder(folder / "model", chat=True)
    (model / "chat_template.jinja").write_text(template)
    return checkpoint(model)


TWICE = [*chat("x", "")[:1], *chat("y", "z")]


def test_a_conversation_that_the_template_refuses_is_named_and_costs_itself(tmp_path: Path) -> None:
    data = talks(tmp_path, chat("q", "a"), TWICE)
    done = run_here(stage(tmp_path, chatty(tmp_path, LIKE_GEMMA), data))
    assert done.message == (
        "2 documents, 0 more held out, 0 duplicates; the tokenizer's chat template refuses 1 of the first 2 "
        "conversations of chats, such as c.jsonl, line 2: of user, user, assistant: Conversation roles must "
        "alternate"
    )


def test_a_template_that_refuses_most_is_refused(tmp_path: Path) -> None:
    error = refused(
        stage(
            tmp_path,
            chatty(tmp_path, LIKE_GEMMA),
            talks(tmp_path, chat("q", "a"), TWICE, TWICE[:] + chat("r", "s")),
        )
    )
    assert error.code == Exit.DATA
    assert (
        "refuses 2 of the first 3 conversations of chats, such as c.jsonl, line 2: of user, user"
        in error.message
    )


def test_a_template_that_is_broken_is_refused(tmp_path: Path) -> None:
    error = refused(stage(tmp_path, chatty(tmp_path, "{% for"), talks(tmp_path, chat("q", "a"))))
    assert error.code == Exit.CONFIG
    assert (
        "refuses a question and its answer: of user, assistant: unexpected 'end of template'" in error.message
    )


def test_half_of_a_surrogate_pair_in_a_task_is_named(tmp_path: Path) -> None:
    lines = ['{"prompt": "1+1=", "answer": "2"}', '{"prompt": "say \\ud83d now", "answer": "x"}']
    task = EvalTask(name="sums", uri=f"file://{jsonl(tmp_path / 't.jsonl', lines)}")
    data = dataset(jsonl(tmp_path / "corpus.jsonl", rows(texts(20))))
    error = refused(inventory_task(tmp_path / "storage", data, tasks=(task,)))
    assert error.message == (
        f"task sums: {tmp_path}/t.jsonl, line 2: holds half of a surrogate pair, which is no text"
    )


def prompts(folder: Path, lines: list[dict[str, Any]]) -> Task:
    """The Inventory of a Rollout stage whose sequences of 64 tokens leave 40 for a prompt."""
    model = ModelSource(source=f"file://{model_folder(folder / 'model', chat=True)}")
    data = dataset(jsonl(folder / "prompts.jsonl", lines))
    asked = {"rollout": True, "holdout_documents": 0}
    own = {"stage": "stage", "version": 2, "arm": "a", "round": 1}
    prepare = PrepareConfig(
        stage_type=StageType.ROLLOUT,
        method=Method.REJECTION_SAMPLING,
        conditioning=Conditioning(),
        prepare=Prepare(sequence_length=64),
        tokenizer=model,
    )
    generate = GenerateConfig(generation=Generation(max_tokens=24), round=1, seed=0, model=model)
    nodes = (
        Node(
            kind="Inventory",
            stage="stage",
            version=2,
            config=InventoryConfig(datasets=(data,), **asked),
            inputs={"datasets": "pin:datasets"},
        ),
        Node(kind="Generate", seed=0, config=generate, **own),
        Node(kind="Prepare", config=prepare, **own),
    )
    return inventory_task(folder / "storage", data, probe=Probe(nodes=nodes), **asked)


def test_prompts_that_leave_no_room_for_an_answer(tmp_path: Path) -> None:
    short, long = {"prompt": "1+1="}, {"prompt": "1+" * 40 + "1="}
    told = run_here(prompts(tmp_path / "one", [short, {"prompt": "2+2="}, long]))
    assert (
        "refuses 1 of the first 3 prompts of corpus, such as prompts.jsonl, line 3: it makes" in told.message
    )
    error = refused(prompts(tmp_path / "most", [short, long, {"prompt": "2+" * 40 + "1="}]))
    assert error.code is Exit.DATA
    assert "refuses 2 of the first 3 prompts" in error.message
    assert "prepare.sequenceLength less rollout.maxTokens is 40" in error.message
    assert "raise prepare.sequenceLength" in error.hint
