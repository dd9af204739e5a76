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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import transformers

from ixt_workloads import models
from ixt_workloads.attention import ATTENTION, check_attention
from ixt_workloads.contract.configs import TrainConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.metrics import (
    CHECKPOINT_INTERVAL,
    CHECKPOINT_TIME,
    GRADIENT_NORM,
    LEARNING_RATE,
    LOSS,
    RESUMED_STEPS,
    ROUTER_LOSS,
    StepPart,
)
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.settings import Export, Precision
from ixt_workloads.data.locate import local_folder
from ixt_workloads.data.packed import PackedData
from ixt_workloads.evaluation import Evaluation
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.flops import flops_by_purpose, judging_flops, training_flops
from ixt_workloads.frame import Step
from ixt_workloads.losses import check_head, token_losses
from ixt_workloads.progress import Reporter
from ixt_workloads.sizes import Decoder
from ixt_workloads.steps.train.batches import Batch, layout_for, make_batch
from ixt_workloads.steps.train.before import flops_before, planned
from ixt_workloads.steps.train.best import better, copied, room_for
from ixt_workloads.steps.train.checkpoint import Checkpoints, named_tensors
from ixt_workloads.steps.train.memory import fill, recompute
from ixt_workloads.steps.train.meter import Meter
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
from ixt_workloads.steps.train.sums import Sums, add_up
from ixt_workloads.tokenizer import load_tokenizer

log = logging.getLogger("ixt.train")

POINTS = 500
"""Points of the curve, about; each is a mean over the steps since the one before."""

RESUME_TOLD_SECONDS = 60.0
"""For so long after a resume the progress says from where."""


def train(  # noqa: PLR0915 - a training script reads best in one piece
    step: Step,
    place: World,
    stop: threading.Event,
    report: Callable[[], None],
    beat: Callable[[], None],
) -> Result | None:
    """Train and commit the artifact; rank 0 returns the result, the others None.

    `stop` is read after every step: once it is set on any rank, all save and raise StepError(INTERRUPTED).
    `report` is called after every step, when the step's reporter knows of it.
    """
    config: TrainConfig = step.config
    bf16 = config.train.precision is Precision.BF16
    prepared = step.input("prepare")

    # --- Data: which sequences a step reads is a function of seed and step alone.
    main_data = PackedData.open(prepared, "main")
    anneal_data = PackedData.open(prepared, "anneal") if config.anneal_percent else main_data
    length = main_data.sequence_length
    main_order = Order(main_data.block_sizes, config.seed)
    anneal_order = Order(anneal_data.block_sizes, config.seed)

    # --- Model and tokenizer. The model is first built without memory, to see how it is to be spread.
    with _origin(step) as origin:
        tokenizer, model = origin.tokenizer, models.on_meta(origin.folder)
        check_attention(model)
        parameters = sum(each.numel() for each in model.parameters())
        decoder = replace(Decoder.from_config(model.config.to_dict()), parameters=parameters)
        shape = decoder.shape
        models.check_vocabulary(shape.vocabulary, prepared.summary["vocabulary"])
        models.check_context(model.config, length)
        models.check_size(model, _exported(config), step.store)
        settings = planned(step, shape, length)
        choices = choose(settings, decoder, length, place)
        others = models.carried(origin.folder)
        # Of a sharded model only rank 0 ever has all weights, on its processor's side.
        whole: Any = origin.load() if place.main or not choices.sharded else None
    layout = layout_for(place.device, compiled=choices.compiled, bf16=bf16)
    if not choices.sharded:
        model = whole.to(place.device)
    own_attention = model.config._attn_implementation
    model.config.use_cache = False
    model.set_attn_implementation(ATTENTION)
    model.train()
    if place.device.type == "cpu" and not bf16:
        use_onednn(model)
    recompute(decoder_layers(model), choices.recomputed)
    if choices.sharded:
        shard(model, place, settings.precision)
        fill(model, whole, place.device)
        gradients = None
    else:
        gradients = flat_gradients(model)
    del whole
    check_head(model)
    if choices.sharded:
        model.reshard()  # what lies outside of layers stays gathered after a forward pass
    if choices.compiled:
        for layer in decoder_layers(model):
            layer.compile()
    optimizer = adamw(model, settings)
    if place.main:
        log.info(
            "%s on %d ranks (%s), %s parameters, %s",
            choices,
            place.size,
            place.device.type,
            decoder.parameters,
            layout,
        )

    # --- Where an earlier attempt stopped.
    checkpoints = Checkpoints(step, settings.checkpoint.keep, place)
    tensors = named_tensors(model, optimizer)
    keeps_best = settings.export is Export.BEST
    if keeps_best:
        tensors["best"] = room_for(tensors["model"], _exported(config))
    fresh: dict[str, Any] = {
        "step": 0, "tokens": 0, "squares": 0, "points": [], "loss": 0.0, "targets": 0.0, "evaluated": 0,
        "best": {},
    }  # fmt: skip
    state = checkpoints.load(tensors, fresh)
    for moments in optimizer.state.values():
        moments["step"].fill_(state["step"])

    # --- The loop. Everything that ranks must agree on goes into one small sum a step.
    meter = Meter(step.reporter, place, shape, flops_before(step) if place.main else None)
    if place.main:
        step.reporter.set(CHECKPOINT_INTERVAL, settings.checkpoint.interval_seconds)
        # A save that never ends must be seen too.
        step.reporter.set(CHECKPOINT_TIME, time.time())
        step.reporter.set(RESUMED_STEPS, state["step"])
        if state["step"]:
            log.info("resumed from step %d of %d", state["step"], choices.steps)
    resumed_words = f", resumed from step {state['step']}" if state["step"] else ""
    if checkpoints.damaged:
        resumed_words += f", {len(checkpoints.damaged)} newer cannot be read"
    evaluation = None
    if settings.eval_every_tokens or config.eval_points:
        evaluation = Evaluation.of(config, prepared, tokenizer, length)
    anneal_from = choices.steps - round(choices.steps * config.anneal_percent / 100)
    point_every = max(1, choices.steps // POINTS)
    started, trained = time.monotonic(), 0
    saved_at = started
    pointed = (0, 0.0)
    told_until = started + RESUME_TOLD_SECONDS

    def flops() -> int:
        return training_flops(shape, state["tokens"], state["squares"] / max(1, state["tokens"]))

    def evaluate() -> dict[str, Any] | None:
        nonlocal started
        if evaluation is None:
            return None
        began = time.monotonic()
        state["evaluated"] += evaluation.tokens
        scores = evaluation.score(
            model, place.device, place.rank, place.size, bf16=bf16, beat=lambda _: beat()
        )
        seconds = time.monotonic() - began
        started += seconds
        meter.evaluated(scores, seconds)
        return scores

    def add_point(loss: float | None, rate: float, scores: dict[str, Any] | None) -> None:
        nonlocal pointed
        last, pointed = pointed, (trained, time.monotonic() - started)
        tokens, seconds = (now - then for now, then in zip(pointed, last, strict=True))
        point = {"step": state["step"], "tokens": state["tokens"], "flops": flops()}
        point |= {"loss": loss, "learningRate": rate}
        point |= {"tokensPerSecond": round(tokens / seconds, 1)} if tokens else {}
        state["points"].append(point | ({"evaluation": scores} if scores is not None else {}))

    if state["step"] == 0 and not state["points"] and evaluation is not None:
        add_point(None, 0.0, evaluate())

    while state["step"] < choices.steps:
        number = state["step"]
        beat()
        meter.mark()
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

        losses = torch.zeros(2, dtype=torch.float64, device=place.device)
        targets = tokens = squares = 0
        for index in range(choices.passes):
            positions = own[index * choices.micro_batch : (index + 1) * choices.micro_batch]
            # A rank without sequences keeps step with the others, whose shards it may hold.
            rows = [data[order.sequence(position)] for position in positions] or [data[0]]
            batch = make_batch(rows, layout, place.device, counted=bool(positions))
            targets += batch.targets
            tokens += batch.tokens
            squares += batch.squares
            meter.mark(StepPart.DATA)
            with torch.autocast(place.device.type, torch.bfloat16, enabled=bf16 and not choices.sharded):
                loss, router = losses_of(model, batch)
            torch.autograd.backward(loss if router is None else loss + router)
            losses[0] += loss.detach()
            if router is not None:
                losses[1] += router.detach()
            meter.mark(StepPart.FORWARD_BACKWARD)

        wants_save = place.main and time.monotonic() - saved_at >= settings.checkpoint.interval_seconds
        here = Sums(0.0, 0.0, targets, tokens, squares, stop.is_set(), wants_save, checkpoints.ready())
        total, ranks = add_up(losses, here, meter.of_rank, place)
        if gradients is not None and place.size > 1:
            dist.all_reduce(gradients)
        meter.mark(StepPart.EXCHANGE)

        rate = learning_rate(
            settings.schedule, float(settings.optimizer.learning_rate), number, choices.steps
        )
        mean = total.loss / max(1.0, total.targets)
        norm = clip_and_scale(
            [gradients]
            if gradients is not None
            else [p.grad for p in model.parameters() if p.grad is not None],
            # FSDP2 takes the mean over ranks where the flat gradients are summed.
            (place.size if gradients is None else 1) / max(1.0, total.targets),
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
        meter.mark(StepPart.UPDATE)

        state["step"] = number = number + 1
        state["tokens"] += int(total.tokens)
        state["squares"] += int(total.squares)
        state["loss"] += total.loss
        state["targets"] += total.targets
        trained += int(total.tokens)
        if place.main:
            since = resumed_words if time.monotonic() < told_until else ""
            step.reporter.update(
                state["tokens"],
                state["tokens"] * choices.steps / number,
                "tokens",
                f"step {number} of {choices.steps}, loss {mean:.3f}{since}",
            )
        else:
            step.reporter.update(0, None, "")
        last = bool(total.stopping) or number == choices.steps
        if meter.stepped(state, ranks, last=last) and place.main:
            _tell_step(step.reporter, mean, rate, norm)
            if total.router:
                step.reporter.set(ROUTER_LOSS, total.router / max(1.0, total.targets))
        report()
        due = evaluation is not None and _due(config, number, choices, length)
        if due or number % point_every == 0 or number == choices.steps:
            scores = evaluate() if due else None
            add_point(state["loss"] / max(1.0, state["targets"]), rate, scores)
            state["loss"] = state["targets"] = 0.0
            if keeps_best and (found := better(state["best"], number, scores)):
                copied(tensors["model"], tensors["best"])
                state["best"] = found

        if total.saved == place.size:
            checkpoints.finish()
        if last or total.saving:
            checkpoints.save(tensors, json.loads(json.dumps(state)))
            saved_at = time.monotonic()
        if total.stopping and number < choices.steps:
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
    if best := state["best"]:
        summary |= {"exportedStep": best["step"], "exportedLoss": best["loss"]}
        copied(tensors["best"], tensors["model"])
    if evaluation is not None:
        summary["evaluationFlops"] = judging_flops(shape, state["evaluated"], length / 2)
    model.set_attn_implementation(own_attention)
    result = _export(step, place, model, tokenizer, others, summary, state["points"])
    checkpoints.clear()
    return result


def _tell_step(reporter: Reporter, loss: float, rate: float, norm: float) -> None:
    reporter.set(LOSS, loss)
    reporter.set(LEARNING_RATE, rate)
    reporter.set(GRADIENT_NORM, norm)


def losses_of(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sum, not mean, of the targets' negative log-likelihoods in nats: ranks are weighed by their targets.
    And what is added for experts that are used unevenly, weighed by the targets; None for other models."""
    found = token_losses(model, batch.inputs, batch.labels)
    return found.nats.sum(), None if found.router is None else found.router * batch.targets


class _Origin(NamedTuple):
    """What a training starts from."""

    folder: Path
    """With the config.json."""
    tokenizer: Any
    seed: int | None
    """Of fresh weights; None for those in the folder."""

    def load(self) -> Any:
        """The model, in float32 on the CPU."""
        if self.seed is None:
            return models.load_model(self.folder)
        return models.new_model(self.folder, self.seed)


@contextmanager
def _origin(step: Step) -> Iterator[_Origin]:
    """The previous stage's model, a checkpoint, or one from scratch."""
    config: TrainConfig = step.config
    source = config.model
    if "parent" in step.task.inputs:
        with models.gathered(step.input("parent")) as folder:
            yield _Origin(folder, load_tokenizer(folder), None)
        return
    if source is None:
        raise StepError(Exit.USAGE, f"{step.task.node} has neither a model nor the input parent")
    secret = source.credentials_secret_ref
    if source.source:
        folder = local_folder(source.source, source.revision, secret)
        yield _Origin(folder, load_tokenizer(folder, source.chat_template), None)
        return
    # Inventory refuses others.
    assert source.config and source.tokenizer
    folder = local_folder(source.tokenizer, source.revision, secret)
    tokenizer = load_tokenizer(folder, source.chat_template)
    yield _Origin(local_folder(source.config, source.revision, secret), tokenizer, config.seed)


def _due(config: TrainConfig, number: int, choices: Choices, length: int) -> bool:
    """Whether to evaluate after step `number`: each time that evalEveryTokens more tokens are read, or that
    share of the steps is done; and at the end."""
    if every := config.train.eval_every_tokens:
        read = choices.sequences * length
    else:
        every, read = choices.steps, config.eval_points
    return number == choices.steps or number * read // every > (number - 1) * read // every


def _exported(config: TrainConfig) -> torch.dtype:
    return torch.bfloat16 if config.train.precision is Precision.BF16 else torch.float32


def _export(
    step: Step,
    place: World,
    model: Any,
    tokenizer: Any,
    others: Mapping[str, bytes],
    summary: dict[str, Any],
    points: list[Any],
) -> Result | None:
    """Write the model folder and the curve, and commit them. Rank 0 does, with every rank's weights."""
    state = full_state(model)
    if not place.main:
        return None
    config: TrainConfig = step.config
    prepared = step.input("prepare")
    contract = Prefixes.read(prepared)
    model.config.use_cache = True
    writer = step.writer()
    with tempfile.TemporaryDirectory(prefix="ixt-export-") as name:
        folder = Path(name)
        models.save_folder(
            folder,
            model,
            tokenizer,
            state=state,
            dtype=_exported(config),
            contract=contract,
            others=others,
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
        message=f"trained {summary['tokens']:,} tokens, loss {summary['finalLoss']:.3f}{_said(summary)}",
        flops=flops_by_purpose("Train", summary),
    )


def _said(summary: Mapping[str, Any]) -> str:
    """Which step was exported, where that is the best."""
    if "exportedStep" not in summary:
        return ""
    return (
        f"; exported is step {summary['exportedStep']:,} of {summary['steps']:,}, the best on held-out "
        f"documents (loss {summary['exportedLoss']:.3f})"
    )


def _fingerprint(place: World) -> dict[str, str]:
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "cpu"
    return {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}
