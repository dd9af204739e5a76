"""The training script that every rank runs.

One process or many, CPU or GPUs: the same script. `__main__` starts it through torch's elastic launcher;
alone, it is a job of one rank.
"""

import json
import logging
import math
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from torch.nn import functional

from ixt_workloads import models
from ixt_workloads.contract.configs import TrainConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.results import Outcome, Progress, Result
from ixt_workloads.contract.settings import Precision
from ixt_workloads.data.locate import local_folder
from ixt_workloads.data.packed import PackedData
from ixt_workloads.data.questions import read_questions
from ixt_workloads.evaluation import Evaluation, read_holdout
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.flops import ModelShape, judging_flops, training_flops
from ixt_workloads.frame import Step
from ixt_workloads.steps.train.batches import ATTENTION, IGNORED, Batch, layout_for, make_batch
from ixt_workloads.steps.train.checkpoint import Checkpoints, named_tensors
from ixt_workloads.steps.train.onednn import use_onednn
from ixt_workloads.steps.train.parallel import (
    Choices,
    adamw,
    choose,
    clip_and_scale,
    decoder_layers,
    flat_gradients,
    full_state,
    shard,
)
from ixt_workloads.steps.train.ranks import World
from ixt_workloads.steps.train.schedule import Order, learning_rate
from ixt_workloads.tokenizer import load_tokenizer

log = logging.getLogger("ixt.train")

POINTS = 500
"""Points of the curve, about; each is a mean over the steps since the one before."""


def train(  # noqa: PLR0915 - a training script reads best in one piece
    step: Step,
    place: World,
    stop: threading.Event,
    report: Callable[[Progress], None],
    beat: Callable[[], None],
) -> Result | None:
    """Train and commit the artifact; rank 0 returns the result, the others None.

    `stop` is read after every step: once it is set on any rank, all save and raise StepError(INTERRUPTED).
    """
    config: TrainConfig = step.config
    settings = config.train
    bf16 = settings.precision is Precision.BF16
    prepared = step.input("prepare")

    # --- Data: which sequences a step reads is a function of seed and step alone.
    main_data = PackedData.open(prepared, "main")
    anneal_data = PackedData.open(prepared, "anneal") if config.anneal_percent else main_data
    length = main_data.sequence_length
    main_order = Order(main_data.block_sizes, config.seed)
    anneal_order = Order(anneal_data.block_sizes, config.seed)

    # --- Model and tokenizer.
    model, tokenizer = _start(step)
    shape = ModelShape.from_config(model.config.to_dict())
    models.check_vocabulary(shape.vocabulary, prepared.summary["vocabulary"])
    _check_context(model.config, length)
    parameters = sum(value.numel() for value in model.parameters())
    choices = choose(settings, shape, parameters, length, place)
    layout = layout_for(place.device, compiled=choices.compiled, bf16=bf16)
    model.config.use_cache = False
    model.set_attn_implementation(ATTENTION)
    model.to(place.device).train()
    if place.device.type == "cpu" and not bf16:
        use_onednn(model)
    if choices.compiled:
        for layer in decoder_layers(model):
            layer.compile()
    if choices.sharded:
        shard(model, place, settings.precision)
        gradients = None
    else:
        gradients = flat_gradients(model)
    optimizer = adamw(model, settings)
    if place.main:
        log.info(
            "%s on %d ranks (%s), %s parameters, %s",
            choices,
            place.size,
            place.device.type,
            parameters,
            layout,
        )

    # --- Where an earlier attempt stopped.
    checkpoints = Checkpoints(step, settings.checkpoint.keep, place.local_rank)
    tensors = named_tensors(model, optimizer)
    state = checkpoints.load(tensors) or {
        "step": 0, "tokens": 0, "squares": 0, "points": [], "loss": 0.0, "targets": 0.0, "evaluated": 0,
    }  # fmt: skip
    for moments in optimizer.state.values():
        moments["step"].fill_(state["step"])

    # --- The loop. Everything that ranks must agree on goes into one small sum a step.
    evaluation = _evaluation(step, tokenizer, length) if settings.eval_every_tokens else None
    anneal_from = choices.steps - round(choices.steps * config.anneal_percent / 100)
    point_every = max(1, choices.steps // POINTS)
    started, trained = time.monotonic(), 0
    saved_at = started

    def flops() -> int:
        return training_flops(shape, state["tokens"], state["squares"] / max(1, state["tokens"]))

    def evaluate() -> dict[str, Any] | None:
        nonlocal started
        if evaluation is None:
            return None
        began = time.monotonic()
        state["evaluated"] += evaluation.tokens
        scores = evaluation.score(model, place.device, place.rank, place.size, bf16=bf16, beat=beat)
        started += time.monotonic() - began
        return scores

    def add_point(loss: float | None, rate: float, scores: dict[str, Any] | None) -> None:
        point = {"step": state["step"], "tokens": state["tokens"], "flops": flops()}
        point |= {"loss": loss, "learningRate": rate}
        state["points"].append(point | ({"evaluation": scores} if scores is not None else {}))

    if state["step"] == 0 and not state["points"] and evaluation is not None:
        add_point(None, 0.0, evaluate())

    while state["step"] < choices.steps:
        number = state["step"]
        beat()
        data, order, first = (
            (main_data, main_order, number)
            if number < anneal_from
            else (anneal_data, anneal_order, number - anneal_from)
        )
        own = range(first * choices.sequences + place.rank, (first + 1) * choices.sequences, place.size)
        if gradients is None:
            optimizer.zero_grad(set_to_none=True)
        else:
            gradients.zero_()

        counts = torch.zeros(7, dtype=torch.float64, device=place.device)
        for index in range(choices.passes):
            positions = own[index * choices.micro_batch : (index + 1) * choices.micro_batch]
            # A rank without sequences keeps step with the others, whose shards it may hold.
            rows = [data[order.sequence(position)] for position in positions] or [data[0]]
            batch = make_batch(rows, layout, place.device, counted=bool(positions))
            with torch.autocast(place.device.type, torch.bfloat16, enabled=bf16 and not choices.sharded):
                loss = loss_sum(model, batch)
            torch.autograd.backward(loss)
            counts[0] += loss.detach()
            counts[1:4] += torch.tensor([batch.targets, batch.tokens, batch.squares], device=place.device)

        wants_save = place.main and time.monotonic() - saved_at >= settings.checkpoint.interval_seconds
        counts[4:] = torch.tensor([stop.is_set(), wants_save, checkpoints.ready()], device=place.device)
        dist.all_reduce(counts)
        loss_total, targets, tokens, squares, stopping, saving, saved = counts.tolist()
        if gradients is not None and place.size > 1:
            dist.all_reduce(gradients)

        rate = learning_rate(
            settings.schedule, float(settings.optimizer.learning_rate), number, choices.steps
        )
        mean = loss_total / max(1.0, targets)
        norm = clip_and_scale(
            [gradients]
            if gradients is not None
            else [p.grad for p in model.parameters() if p.grad is not None],
            # FSDP2 takes the mean over ranks where the flat gradients are summed.
            (place.size if gradients is None else 1) / max(1.0, targets),
            float(settings.optimizer.max_grad_norm),
        )
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise StepError(
                Exit.DIVERGED,
                f"step {number + 1} of {choices.steps}: loss {mean:.4g}, gradient norm {norm:.4g}, "
                f"learning rate {rate:.3g}",
                "lower optimizer.learningRate (a third is a good try) or raise schedule.warmupPercent",
            )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

        state["step"] = number = number + 1
        state["tokens"] += int(tokens)
        state["squares"] += int(squares)
        state["loss"] += loss_total
        state["targets"] += targets
        trained += int(tokens)
        speed = trained / max(1e-9, time.monotonic() - started)
        report(
            Progress(
                done=state["tokens"],
                total=state["tokens"] * choices.steps / number,
                unit="tokens",
                message=f"step {number} of {choices.steps}, loss {mean:.3f}",
                metrics={"loss": mean, "learningRate": rate, "gradNorm": norm, "tokensPerSecond": speed},
            )
        )
        due = evaluation is not None and _due(number, choices, length, settings.eval_every_tokens)
        if due or number % point_every == 0 or number == choices.steps:
            add_point(state["loss"] / max(1.0, state["targets"]), rate, evaluate() if due else None)
            state["loss"] = state["targets"] = 0.0

        if saved == place.size:
            checkpoints.finish()
        if stopping or saving or number == choices.steps:
            checkpoints.save(tensors, json.loads(json.dumps(state)))
            saved_at = time.monotonic()
        if stopping and number < choices.steps:
            checkpoints.finish()
            raise StepError(
                Exit.INTERRUPTED,
                f"stopped after step {number} of {choices.steps}; saved",
                "the run resumes there",
            )
    checkpoints.finish()
    seconds = time.monotonic() - started

    # --- Export.
    epochs = anneal_from * choices.sequences / main_order.total
    summary = {
        "tokens": state["tokens"],
        "uniqueTokens": round(state["tokens"] / max(1.0, epochs)),
        "epochs": epochs,
        "steps": choices.steps,
        "flops": flops(),
        "parameters": shape.parameters,
        "finalLoss": state["points"][-1]["loss"],
        "worldSize": place.size,
        "tokensPerSecond": trained / seconds if trained else 0.0,
        "modelConfig": {"layers": shape.layers, "width": shape.width, "vocabulary": shape.vocabulary},
    }
    result = _export(step, place, model, tokenizer, summary, state["points"])
    checkpoints.clear()
    if result is None or evaluation is None:
        return result
    cost = judging_flops(shape, state["evaluated"], length / 2)
    return result.model_copy(update={"flops": {**result.flops, "evaluation": cost}})


def loss_sum(model: Any, batch: Batch) -> torch.Tensor:
    """Sum, not mean, of the targets' negative log-likelihoods in nats: ranks are weighed by their targets."""
    logits = model(**batch.inputs, use_cache=False).logits
    return functional.cross_entropy(
        logits.view(-1, logits.shape[-1]).float(), batch.labels, ignore_index=IGNORED, reduction="sum"
    )


def _start(step: Step) -> tuple[Any, Any]:
    """Model (float32, on the CPU) and tokenizer: the previous stage's, a checkpoint's, or from scratch."""
    config: TrainConfig = step.config
    if "parent" in step.task.inputs:
        with models.gathered(step.input("parent")) as folder:
            return models.load_model(folder), load_tokenizer(folder)
    source = config.model
    if source is None:
        raise StepError(Exit.USAGE, f"{step.task.node} has neither a model nor the input parent")
    secret = source.credentials_secret_ref
    if source.source:
        folder = local_folder(source.source, source.revision, secret)
        return models.load_model(folder), load_tokenizer(folder)
    if not source.config or not source.tokenizer:
        raise StepError(
            Exit.CONFIG,
            "model has no source, and not both of config and tokenizer",
            "set model.source, or both",
        )
    tokenizer = load_tokenizer(local_folder(source.tokenizer, source.revision, secret))
    return models.new_model(local_folder(source.config, source.revision, secret), config.seed), tokenizer


def _check_context(config: Any, length: int) -> None:
    """Raises StepError(CONFIG) for sequences that the model cannot attend over."""
    most = getattr(config, "max_position_embeddings", None) or length
    window = getattr(config, "sliding_window", None) or length
    if length > min(most, window):
        raise StepError(
            Exit.CONFIG,
            f"prepare.sequenceLength is {length}, the model attends over {min(most, window)} tokens",
            "lower prepare.sequenceLength, or raise max_position_embeddings in the model's config.json",
        )


def _evaluation(step: Step, tokenizer: Any, length: int) -> Evaluation:
    config: TrainConfig = step.config
    prepared = step.input("prepare")
    return Evaluation(
        tokenizer,
        Prefixes.read(prepared),
        read_holdout(prepared.file("holdout.parquet")),
        {task.name: read_questions(task) for task in config.evaluate.tasks},
        config.evaluate.prefixes,
        chat=config.stage_type.is_chat,
        max_length=length,
        seed=config.seed,
    )


def _due(number: int, choices: Choices, length: int, every: int | None) -> bool:
    """Whether to evaluate after step `number`: each time `every` more tokens are read, and at the end."""
    if every is None:
        return False
    read = choices.sequences * length
    return number == choices.steps or number * read // every > (number - 1) * read // every


def _export(
    step: Step, place: World, model: Any, tokenizer: Any, summary: dict[str, Any], points: list[Any]
) -> Result | None:
    """Write the model folder and the curve, and commit them. Rank 0 does, with every rank's weights."""
    state = full_state(model)
    if not place.main:
        return None
    config: TrainConfig = step.config
    prepared = step.input("prepare")
    contract = Prefixes.read(prepared)
    model.set_attn_implementation("sdpa")
    model.config.use_cache = True
    writer = step.writer()
    with tempfile.TemporaryDirectory(prefix="ixt-export-") as name:
        folder = Path(name)
        models.save_folder(
            folder,
            model,
            tokenizer,
            state=state,
            dtype=torch.bfloat16 if config.train.precision is Precision.BF16 else torch.float32,
            contract=contract,
        )
        (folder / "conditioning.json").write_bytes(prepared.file("conditioning.json").read_bytes())
        (folder / "curve.json").write_text(json.dumps({"points": points}))
        files = sorted(path.name for path in folder.iterdir())
        for file in files:
            writer.add(file, folder / file)
        artifact = writer.commit(summary, files, _fingerprint(place))
    return Result(
        outcome=Outcome.COMMITTED,
        key=artifact.key,
        message=f"trained {summary['tokens']:,} tokens, loss {summary['finalLoss']:.3f}",
        flops={"training": summary["flops"]},
        metrics={"loss": summary["finalLoss"], "tokensPerSecond": summary["tokensPerSecond"]},
    )


def _fingerprint(place: World) -> dict[str, str]:
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "cpu"
    return {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}
