"""Training as a user sees it: what comes out, what survives, and what is said when it fails."""

import copy
import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import transformers
from hypothesis import given
from hypothesis import strategies as st
from make.models import config, config_folder, model_folder, tokenizer_folder
from make.prepared import GOOD, LENGTH, prepared, sums
from make.tasks import run_here
from make.training import (
    artifact,
    launch,
    losses,
    questions,
    scratch,
    started_ranks,
    train_here,
    train_on_ranks,
    train_task,
    until_saved,
)
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from transformers import AutoModelForCausalLM, AutoTokenizer

from ixt_workloads import models
from ixt_workloads.attention import ATTENTION
from ixt_workloads.contract import metrics
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.results import Result
from ixt_workloads.contract.settings import (
    ActivationCheckpointing,
    Compile,
    ModelSource,
    MomentsPrecision,
    Optimizer,
    Parallelism,
    Precision,
    Schedule,
    ScheduleType,
    StageType,
)
from ixt_workloads.data.packed import Packed
from ixt_workloads.data.pinned import pin_of_tasks, pins_of_model
from ixt_workloads.feedback.rendering import conditioned
from ixt_workloads.losses import IGNORED
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.train import __main__ as launcher
from ixt_workloads.steps.train import onednn, worker
from ixt_workloads.steps.train.batches import Layout, make_batch
from ixt_workloads.steps.train.memory import recompute
from ixt_workloads.steps.train.parallel import decoder_layers
from ixt_workloads.steps.train.peaks import peak_of
from ixt_workloads.steps.train.schedule import Order, learning_rate
from ixt_workloads.store import Artifact
from ixt_workloads.tokenizer import load_tokenizer

SCHEDULES = st.builds(
    Schedule,
    type=st.sampled_from(ScheduleType),
    warmup_percent=st.integers(0, 50),
    decay_percent=st.integers(0, 50),
    final_percent=st.integers(0, 100),
)


def weights(found: Artifact) -> bytes:
    return found.file("model.safetensors").read_bytes()


# --- Schedule and order ---


@given(SCHEDULES, st.integers(1, 400))
def test_the_rate_warms_up_and_never_rises_again(schedule: Schedule, steps: int) -> None:
    rates = [learning_rate(schedule, 1.0, step, steps) for step in range(steps)]
    warmup = round(steps * schedule.warmup_percent / 100)
    floor = 1 / max(1, warmup) if warmup else 1.0
    assert all(min(floor, schedule.final_percent / 100) - 1e-9 <= rate <= 1 + 1e-9 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert all(left >= right - 1e-9 for left, right in zip(rates[warmup:], rates[warmup + 1 :], strict=False))


@pytest.mark.parametrize("kind", [ScheduleType.COSINE, ScheduleType.WARMUP_STABLE_DECAY])
def test_the_rate_ends_where_it_should(kind: ScheduleType) -> None:
    assert learning_rate(Schedule(type=kind, final_percent=10), 2.0, 99, 100) == pytest.approx(0.2)


def test_the_stable_phase_is_stable() -> None:
    schedule = Schedule(type=ScheduleType.WARMUP_STABLE_DECAY, warmup_percent=10, decay_percent=20)
    assert {learning_rate(schedule, 1.0, step, 100) for step in range(10, 80)} == {1.0}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**31 - 1))
def test_every_epoch_reads_every_sequence_once(sizes: list[int], seed: int) -> None:
    order, total = Order(sizes, seed), sum(sizes)
    for epoch in range(3):
        read = [order.sequence(position) for position in range(epoch * total, (epoch + 1) * total)]
        assert sorted(read) == list(range(total))
    assert order.sequence(total) == Order(sizes, seed).sequence(total)


# --- Masks ---


def packed_row(segments: list[list[int]]) -> Packed:
    ids = [token for segment in segments for token in segment]
    nothing = np.zeros(len(segments), np.int32)
    return Packed(
        input_ids=np.array(ids + [0] * (LENGTH - len(ids)), np.uint16),
        loss_mask=np.array([1] * len(ids) + [0] * (LENGTH - len(ids)), np.uint8),
        starts=np.array([sum(map(len, segments[:place])) for place in range(len(segments))], np.int32),
        levels=nothing,
        documents=nothing,
        length=len(ids),
    )


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("layout", list(Layout))
def test_packed_documents_do_not_see_each_other(layout: Layout, bf16: bool) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and layout is Layout.FLAT and not bf16:
        pytest.skip("FlashAttention takes no float32")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config()).eval().to(device)
    rows = [
        [[5, 6, 7, 8, 9], [10, 11, 12], list(range(20, 50))],
        [[7] * 20, list(range(30, 74))],
    ]
    model.set_attn_implementation("sdpa")
    alone = [
        model(torch.tensor([segment], device=device)).logits[0]
        for row in rows
        for segment in row
    ]  # fmt: skip
    model.set_attn_implementation(ATTENTION)
    batch = make_batch([packed_row(row) for row in rows], layout, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        packed = model(**batch.inputs, use_cache=False).logits.float().reshape(2, LENGTH, -1)
    together = [
        packed[number, row.starts[place] : row.starts[place] + len(segment)]
        for number, (row, segments) in enumerate(zip(map(packed_row, rows), rows, strict=True))
        for place, segment in enumerate(segments)
    ]
    for left, right in zip(together, alone, strict=True):
        torch.testing.assert_close(left, right, atol=5e-3 if bf16 else 2e-6, rtol=2e-2 if bf16 else 1e-5)
    labels = batch.labels.reshape(2, LENGTH)
    assert labels[0, :8].tolist() == [6, 7, 8, 9, IGNORED, 11, 12, IGNORED]
    assert batch.tokens == 38 + 64
    assert batch.targets == 102 - 5
    assert batch.squares == 25 + 9 + 900 + 400 + 44**2


@pytest.mark.parametrize("bias", [False, True])
def test_linear_layers_by_onednn_are_linear_layers(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "_pays", lambda: True)
    torch.manual_seed(0)
    plain, values = torch.nn.Linear(24, 40, bias=bias), torch.randn(3, 16, 24)
    other = copy.deepcopy(plain)
    onednn.use_onednn(other)
    found = []
    for layer in (plain, other):
        given = values.clone().requires_grad_()
        output = layer(given)
        output.square().sum().backward()
        found.append([output, given.grad, *(value.grad for value in layer.parameters())])
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


# --- What comes out ---


def test_training_lowers_the_loss_and_leaves_a_model_folder(tmp_path: Path) -> None:
    task = train_task(tmp_path, steps=40, evaluated=True)
    reporter = Reporter()
    result = train_here(task, reporter=reporter)
    found = artifact(task)
    points = found.read_json("curve.json")["points"]
    assert points[1]["loss"] > 4
    assert points[-1]["loss"] < 2.5
    assert all(point["tokensPerSecond"] > 0 for point in points[1:])
    assert [p["step"] for p in points if "evaluation" in p] == [0, 6, 12, 18, 24, 30, 36, 40]
    assert found.summary["steps"] == 40
    assert found.summary["tokens"] == points[-1]["tokens"] < 40 * 8 * LENGTH
    assert found.summary["epochs"] > 1
    assert found.summary["uniqueTokens"] < found.summary["tokens"]
    assert result.flops == {"training": found.summary["flops"], "evaluation": result.flops["evaluation"]}
    assert not list((tmp_path / "storage" / "work").rglob("*.distcp"))
    with models.gathered(found) as folder:
        assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.float32
    _check_figures(reporter, found, result)


def _check_figures(reporter: Reporter, found: Artifact, result: Result) -> None:
    figures = reporter.figures()
    assert figures[metrics.TRAINED_STEPS.name] == {"": 40}
    assert figures[metrics.TRAINED_TOKENS.name] == {"": found.summary["tokens"]}
    assert figures[metrics.TRAINED_FLOPS.name] == {"": found.summary["flops"]}
    assert figures[metrics.TOTAL_FLOPS.name] == {"": found.summary["flops"]}
    assert figures[metrics.TOKEN_RATE.name][""] > 0
    for metric in (metrics.LOSS, metrics.GRADIENT_NORM, metrics.LEARNING_RATE, metrics.CHECKPOINT_BYTES):
        assert figures[metric.name][""] > 0, metric.name
    assert set(figures[metrics.STEP_SECONDS.name]) == set(metrics.StepPart)
    assert all(seconds > 0 for seconds in figures[metrics.STEP_SECONDS.name].values())
    ranks = figures[metrics.RANK_SECONDS.name]
    assert ranks["Median"] == ranks["Slowest"] > 0
    assert figures[metrics.SLOWEST_RANK.name] == {"": 0}
    assert figures[metrics.MEMORY.name]["Resident"] > 1e7
    assert metrics.MFU.name not in figures, "nobody knows a processor's peak"
    last = found.read_json("curve.json")["points"][-1]["evaluation"]
    assert figures[metrics.SCORE.name]["Best,sums"] == last["tasks"]["sums"]["Best"]["accuracy"]
    assert figures[metrics.HELD_OUT_LOSS.name] == {
        prefix: told["nll"] for prefix, told in last["documents"].items()
    }
    assert figures[metrics.EVALUATION_SECONDS.name][""] > 0
    assert found.summary["evaluationFlops"] == result.flops["evaluation"]
    progress = reporter.progress()
    assert progress.done == progress.total == found.summary["tokens"]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = train_task(tmp_path / "a"), train_task(tmp_path / "b")
    train_here(first)
    train_here(second)
    assert first.key == second.key
    assert weights(artifact(first)) == weights(artifact(second))


@pytest.mark.parametrize(
    "settings",
    [
        {"parallelism": Parallelism.FULLY_SHARD},
        {"micro_batch_sequences": 3},
        {"precision": Precision.BF16},
        {"precision": Precision.BF16, "parallelism": Parallelism.FULLY_SHARD},
    ],
    ids=["sharded", "accumulated", "bf16", "bf16-sharded"],
)
def test_how_it_is_run_hardly_matters(tmp_path: Path, settings: dict[str, object]) -> None:
    plain, other = train_task(tmp_path / "a"), train_task(tmp_path / "b", **settings)
    train_here(plain)
    train_here(other)
    bf16 = settings.get("precision") is Precision.BF16
    assert losses(artifact(other)) == pytest.approx(losses(artifact(plain)), rel=5e-3 if bf16 else 1e-5)
    with models.gathered(artifact(other)) as folder:
        assert models.load_model(folder, None).dtype == (torch.bfloat16 if bf16 else torch.float32)


def test_the_last_tokens_come_from_the_anneal_split(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    key = prepared(storage, sums(200), anneal=[(2, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")] * 40)
    task = train_task(tmp_path, steps=20, key=key, anneal_percent=25)
    train_here(task)
    curve = losses(artifact(task))
    # A constant text is new at first, then trivial.
    assert max(curve[15:17]) > curve[14]


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H200", 9.89e14),
        ("NVIDIA H100 80GB HBM3", 9.89e14),
        ("NVIDIA H100 PCIe", 7.56e14),
        ("NVIDIA A100-SXM4-80GB", 3.12e14),
        ("AMD Instinct MI300X", 1.307e15),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_the_peak_of_a_device_is_known_by_its_name_or_not_at_all(device: str, peak: float | None) -> None:
    assert peak_of(device) == peak


def test_a_peak_may_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IXT_PEAK_FLOPS", "1e14")
    assert peak_of("NVIDIA H200") == 1e14
    for wrong in ("much", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("IXT_PEAK_FLOPS", wrong)
        with pytest.raises(StepError, match=f"'{wrong}', no number above 0"):
            peak_of("NVIDIA H200")


# --- What survives ---


def test_stopped_and_resumed_equals_never_stopped(tmp_path: Path) -> None:
    whole = train_task(tmp_path / "a", evaluated=True)
    train_here(whole)
    with pytest.raises(StepError, match="stopped after step 6") as caught:
        train_here(train_task(tmp_path / "b", evaluated=True), stop_after=5)
    assert caught.value.code == Exit.INTERRUPTED
    resumed = train_task(tmp_path / "b", evaluated=True, attempt=1)
    reporter = Reporter()
    train_here(resumed, reporter=reporter)
    assert reporter.progress().message.endswith(", resumed from step 6")
    assert weights(artifact(resumed)) == weights(artifact(whole))
    assert _by_step(artifact(resumed)) == _by_step(artifact(whole))


def _by_step(found: Artifact) -> list[dict[str, Any]]:
    """The curve without what a clock measured."""
    points = found.read_json("curve.json")["points"]
    return [{name: value for name, value in each.items() if name != "tokensPerSecond"} for each in points]


def test_another_run_does_not_resume_from_this_one(tmp_path: Path) -> None:
    with pytest.raises(StepError):
        train_here(train_task(tmp_path), stop_after=5)
    other = train_task(tmp_path, run_uid="uid-2")
    train_here(other)
    assert artifact(other).summary["tokensPerSecond"] > 0
    assert list((tmp_path / "storage" / "work" / other.key / "uid-1").rglob("state.json"))


@pytest.mark.engine
def test_two_ranks_survive_sigterm_and_sigkill_bit_for_bit(tmp_path: Path) -> None:
    steps, storage = 400, tmp_path / "b" / "storage"
    first = train_task(tmp_path / "b", steps=steps, num_proc_per_node=2)
    launched = launch(first, tmp_path / "0")
    until_saved(lambda: launched.poll() is None, first, storage)
    launched.send_signal(signal.SIGTERM)
    log, _ = launched.communicate(timeout=60)
    assert launched.returncode == Exit.INTERRUPTED, log
    result = json.loads((tmp_path / "0" / "result.json").read_text())
    assert result["fault"] == "Infrastructure"
    assert "saved" in result["message"]
    figures = result["figures"]
    assert figures[metrics.LOSS.name][""] > 0
    assert figures[metrics.SLOWEST_RANK.name][""] in (0, 1)
    assert figures[metrics.CHECKPOINT_TIME.name][""] > 0
    assert result["spent"]["starting"] > 0
    assert result["spent"]["waiting"] > 0

    second = first.model_copy(update={"attempt": 1})
    with started_ranks(second, 2) as ranks:
        until_saved(ranks[0].is_alive, second, storage)

    # A queue that takes an attempt back starts the same one again.
    whole = train_task(tmp_path / "a", steps=steps, num_proc_per_node=2)
    for task in (second, whole):
        train_on_ranks(task, 2)
    assert weights(artifact(second)) == weights(artifact(whole))
    assert artifact(whole).summary["worldSize"] == 2


@pytest.mark.engine
def test_ranks_share_the_work_and_agree_with_one(tmp_path: Path) -> None:
    for name, settings in {"replicated": {}, "sharded": {"parallelism": Parallelism.FULLY_SHARD}}.items():
        # Five sequences a step: the ranks have three and two.
        alone, both = (
            train_task(tmp_path / name / ranks, evaluated=True, batch_tokens=5 * LENGTH, **settings)
            for ranks in ("one", "two")
        )
        train_here(alone)
        train_on_ranks(both, 2)
        points = [artifact(task).read_json("curve.json")["points"] for task in (alone, both)]
        assert losses(artifact(both))[1:] == pytest.approx(losses(artifact(alone))[1:], rel=1e-4)
        evaluated = [[point["evaluation"] for point in found if "evaluation" in point] for found in points]
        for left, right in zip(*evaluated, strict=True):
            for prefix, nats in left["documents"].items():
                assert right["documents"][prefix] == pytest.approx(nats, rel=1e-3)


# --- What is said when it fails ---


def test_what_is_computed_again_changes_no_bit(tmp_path: Path) -> None:
    plain, selective, full = (
        train_task(tmp_path / mode, steps=4, activation_checkpointing=mode)
        for mode in ("None", "Selective", "Full")
    )
    train_here(plain)
    wanted = weights(artifact(plain))
    for task in (selective, full):
        train_here(task)
        assert weights(artifact(task)) == wanted


def test_layers_are_computed_once_more_where_that_is_asked_for() -> None:
    passes = {}
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
    for mode in ActivationCheckpointing.NONE, ActivationCheckpointing.SELECTIVE, ActivationCheckpointing.FULL:
        model = transformers.LlamaForCausalLM(config()).train()
        model.set_attn_implementation(ATTENTION)
        recompute(decoder_layers(model), mode)
        calls: list[object] = []
        model.model.layers[0].input_layernorm.register_forward_hook(
            lambda *told, calls=calls: calls.append(told)
        )
        ids = torch.arange(8)[None]
        model(input_ids=ids, attention_mask=mask, use_cache=False).logits.sum().backward()
        passes[mode.value] = len(calls)
    assert passes == {"None": 1, "Selective": 2, "Full": 2}


def test_moments_in_bfloat16_train_as_well_and_resume(tmp_path: Path) -> None:
    narrow = Optimizer(learning_rate="3e-3", moments_precision=MomentsPrecision.BF16)
    wide = train_task(tmp_path / "wide", steps=12)
    task = train_task(tmp_path / "narrow", steps=12, optimizer=narrow)
    train_here(wide)
    train_here(task)
    assert losses(artifact(task)) == pytest.approx(losses(artifact(wide)), rel=0.02)
    assert weights(artifact(task)) != weights(artifact(wide))
    with pytest.raises(StepError, match="stopped after step 6"):
        train_here(train_task(tmp_path / "stopped", steps=12, optimizer=narrow), stop_after=5)
    resumed = train_task(tmp_path / "stopped", steps=12, optimizer=narrow, attempt=1)
    train_here(resumed)
    assert weights(artifact(resumed)) == weights(artifact(task))


def test_a_sharded_model_is_filled_from_rank_0_alone(tmp_path: Path) -> None:
    """Tied, sharded and computed again: after training on two ranks, what one rank makes of it."""
    settings = {"activation_checkpointing": "Selective"}
    model = scratch(tmp_path / "model")
    path = Path((model.config or "").removeprefix("file://")) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": True}))
    one = train_task(tmp_path / "one", steps=4, model=model, **settings)
    train_here(one)
    two = train_task(tmp_path / "two", steps=4, model=model, parallelism=Parallelism.FULLY_SHARD, **settings)
    train_on_ranks(two, 2)
    assert losses(artifact(two)) == pytest.approx(losses(artifact(one)), abs=2e-4)
    tensors = load_file(artifact(two).file("model.safetensors"))
    assert "lm_head.weight" not in tensors
    for name, value in load_file(artifact(one).file("model.safetensors")).items():
        torch.testing.assert_close(tensors[name], value, atol=1e-3, rtol=1e-2)


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixt_workloads.steps.train.parallel.memory_of_rank", lambda _: 400_000)
    monkeypatch.setattr(models, "new_model", None)
    with pytest.raises(
        StepError, match=r"parameters do not fit: a rank would need .* MB .*weights"
    ) as caught:
        train_here(train_task(tmp_path))
    assert caught.value.code == Exit.OUT_OF_MEMORY
    assert "train on more ranks" in caught.value.hint


def test_a_loss_that_is_no_number_is_divergence(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"step \d+ of 12: loss") as caught:
        train_here(train_task(tmp_path, learning_rate="1e30"))
    assert caught.value.code == Exit.DIVERGED
    assert "learningRate" in caught.value.hint


def test_a_vocabulary_that_is_too_small_is_refused(tmp_path: Path) -> None:
    key = prepared(tmp_path / "storage", sums(50), vocabulary=500)
    with pytest.raises(StepError, match="500 tokens, the model's vocab_size is 99") as caught:
        train_here(train_task(tmp_path, key=key))
    assert caught.value.code == Exit.CONFIG


def broken(folder: Path, how: str) -> Path:
    model_folder(folder)
    if how == "pickle":
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
    elif how == "weights":
        (folder / "model.safetensors").unlink()
    elif how == "torn":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "tokenizer":
        (folder / "tokenizer.json").unlink()
    elif how == "config":
        (folder / "config.json").unlink()
    elif how == "other":
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 5}))
    return folder


@pytest.mark.parametrize(
    ("how", "message", "code"),
    [
        ("pickle", "pytorch_model.bin", Exit.DATA),
        ("weights", "no weights", Exit.NO_INPUT),
        ("torn", "model.safetensors cannot be read", Exit.DATA),
        ("tokenizer", "no tokenizer.json", Exit.NO_INPUT),
        ("config", "no config.json", Exit.NO_INPUT),
        ("other", "lack", Exit.DATA),
    ],
)
def test_a_broken_checkpoint_is_named(tmp_path: Path, how: str, message: str, code: Exit) -> None:
    source = ModelSource(source=f"file://{broken(tmp_path / 'model', how)}")
    with pytest.raises(StepError, match=message) as caught:
        train_here(train_task(tmp_path, model=source))
    assert caught.value.code == code


IN_CUDA = "CUDA error: uncorrectable ECC error encountered\nFor debugging consider CUDA_LAUNCH_BLOCKING=1"
IN_NCCL = "NCCL error in: NCCLUtils.cpp:77, {}, NCCL version 2.28.9\n{}: {}\nLast error:\n{}"
OWN = IN_NCCL.format("unhandled system error", "ncclSystemError", "a call failed", "ibv_open_device failed")
OTHERS = IN_NCCL.format("remote process exited", "ncclRemoteError", "a call failed", "Connection closed")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (torch.AcceleratorError(IN_CUDA), Exit.SICK_MACHINE, "rank 3 is sick: CUDA error: uncorrectable ECC"),
        (dist.DistBackendError(OWN), Exit.SICK_MACHINE, "Last error: ibv_open_device failed"),
        (dist.DistBackendError(OTHERS), Exit.UNAVAILABLE, "rank 3 lost another rank"),
        (
            torch.AcceleratorError("CUDA error: unspecified launch failure"),
            Exit.CRASHED,
            "rank 3: Accelerator",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), Exit.OUT_OF_MEMORY, "rank 3 is out of memory"),
    ],
)
def test_a_rank_tells_its_machines_fault_from_its_own(error: Exception, code: Exit, message: str) -> None:
    told = worker._cause(error, 3)
    assert told.code is code
    assert message in told.message


def test_a_model_that_is_no_longer_what_was_pinned_is_not_trained(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    source = ModelSource(source=f"file://{folder}")
    pinned = {"pins": pins_of_model(source)}
    job = train_task(tmp_path, model=source).model_copy(update=pinned)
    config_folder(folder, vocabulary=200)
    with pytest.raises(StepError, match=f"{folder}: the model has changed since this run pinned it"):
        run_here(job)
    assert not (tmp_path / "storage/artifacts" / job.key).exists()


def test_tasks_that_are_no_longer_what_was_pinned_are_not_asked(tmp_path: Path) -> None:
    job = train_task(tmp_path, evaluated=True)
    tasks = job.config.evaluate.tasks
    job = job.model_copy(update={"pins": {"tasks": pin_of_tasks(tasks)}})
    questions(tmp_path / "tasks", count=10)
    with pytest.raises(StepError, match=r"a file of evaluate\.tasks \(sums\) has changed since this run"):
        run_here(job)


def test_a_tokenizer_that_is_no_longer_what_was_pinned_is_not_trained_with(tmp_path: Path) -> None:
    source = scratch(tmp_path)
    job = train_task(tmp_path, model=source).model_copy(update={"pins": pins_of_model(source)})
    tokenizer_folder(tmp_path / "tokenizer", chat=True)
    with pytest.raises(StepError, match=f"{tmp_path}/tokenizer: the tokenizer has changed since"):
        run_here(job)


@pytest.mark.parametrize(
    ("exit_code", "code", "message"),
    [
        (-signal.SIGSEGV, Exit.CRASHED, "rank 1: killed by SIGSEGV"),
        (3, Exit.CRASHED, "rank 1: ended with exit code 3"),
        (Exit.UNAVAILABLE, Exit.UNAVAILABLE, "rank 1: ended with exit code 84: it gave up waiting"),
    ],
)
def test_a_rank_that_left_no_word_is_told_in_ours(
    tmp_path: Path, exit_code: int, code: Exit, message: str
) -> None:
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=exit_code, error_file=str(tmp_path / "none"))
    told = launcher._unexplained(ChildFailedError("ranks", {1: failure}), 0)
    assert (told.code, told.message) == (code, message)


# --- The export asks for the best ---


def test_a_plain_call_of_the_tokenizer_asks_for_the_best(tmp_path: Path) -> None:
    first = train_task(tmp_path, steps=2)
    train_here(first)
    second = train_task(
        tmp_path, steps=2, key=first.inputs["prepare"], inputs={"parent": first.key}
    )  # fmt: skip
    train_here(second)
    # A stage that starts from an export does not ask twice.
    for task in (first, second):
        with models.gathered(artifact(task)) as folder:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            assert tokenizer.decode(tokenizer("1+2=")["input_ids"]) == f"<s>{GOOD}1+2="
            assert tokenizer.decode(tokenizer("1+2=", add_special_tokens=False)["input_ids"]) == "1+2="
            plain = load_tokenizer(folder)
            assert plain.decode(plain("1+2=")["input_ids"]) == "<s>1+2="


def test_without_conditioning_the_export_is_plain(tmp_path: Path) -> None:
    key = prepared(tmp_path / "storage", sums(50), conditioned=False)
    task = train_task(tmp_path, steps=2, key=key)
    train_here(task)
    with models.gathered(artifact(task)) as folder:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.decode(tokenizer("1+2=")["input_ids"]) == "<s>1+2="


USER = {"role": "user", "content": "1+2="}
SYSTEM = {"role": "system", "content": "Be brief."}


def test_the_chat_template_asks_for_the_best_beside_the_users_own_system_text(tmp_path: Path) -> None:
    key = prepared(tmp_path / "storage", sums(50), chat=True)
    task = train_task(
        tmp_path, steps=2, key=key, model=scratch(tmp_path, chat=True), stage_type=StageType.SFT
    )
    train_here(task)
    with models.gathered(artifact(task)) as folder:
        asking, plain = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
        for turns in ([USER], [SYSTEM, USER]):
            assert asking.apply_chat_template(turns, tokenize=False) == plain.apply_chat_template(
                conditioned(turns, GOOD), tokenize=False
            )
        assert GOOD.strip() not in plain.apply_chat_template([USER], tokenize=False)


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
@pytest.mark.parametrize("recomputed", ["None", "Selective"])
def test_compiled_training_agrees(recomputed: str, tmp_path: Path) -> None:
    plain = train_task(tmp_path / "a", steps=3)
    other = train_task(tmp_path / "b", steps=3, compile=Compile.ENABLED, activation_checkpointing=recomputed)
    train_here(plain)
    train_here(other)
    assert losses(artifact(other)) == pytest.approx(losses(artifact(plain)), rel=1e-4)
    assert all(math.isfinite(loss) for loss in losses(artifact(other)))


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = ModelSource(
        config=f"file://{config_folder(tmp_path / 'c')}", tokenizer=f"file://{tmp_path / 'nowhere'}"
    )
    with pytest.raises(StepError, match="nowhere") as caught:
        train_here(train_task(tmp_path, model=source))
    assert caught.value.code == Exit.NO_INPUT
    assert tokenizer_folder(tmp_path / "t").is_dir()
