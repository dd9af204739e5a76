"""What a run will cost and take, by arithmetic on its manifest and the config.json of its models: `ixt plan`.

Nothing is loaded and no data are read; what is assumed instead is printed.
"""

import math
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ixt_workloads.contract.base import AUTO
from ixt_workloads.contract.configs import (
    AnnotateConfig,
    GenerateConfig,
    InventoryConfig,
    PrepareConfig,
    TrainConfig,
)
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Node, PlanQuestion
from ixt_workloads.contract.settings import Judge, ModelSource
from ixt_workloads.data.locate import local_config
from ixt_workloads.flops import ModelShape, config_in, judging_flops, training_flops
from ixt_workloads.sizes import Decoder, Fit, fit
from ixt_workloads.steps.train.peaks import Device, device_of

TRAINING_SHARE = 0.4
"""Share of a device's peak that training is taken to use."""
JUDGING_SHARE = 0.15
"""The same of a judge, which reads documents fast and writes slowly."""
RUBRIC_TOKENS = 300
"""What a judge is asked beside the document."""


class _Machine(NamedTuple):
    """What ranks run on."""

    said: str
    device: Device | None
    gpu: bool
    available: float
    """Bytes for all ranks of one machine's processors, or for the rank of a GPU; infinite where not known."""


class _Arm(NamedTuple):
    """What an arm costs in a stage."""

    name: str
    seeds: int
    train: TrainConfig
    percent: int
    """Of the documents that it has annotated."""


class _Rounds(NamedTuple):
    """The rounds of a Rollout stage."""

    number: int
    samples: float
    """Answers that a round writes, and has annotated."""
    answer: float
    """Tokens of one."""
    generation: float
    """FLOPs of writing those of a round."""


class _Cost(NamedTuple):
    """What an arm costs up to the end of a stage."""

    steps: int
    training: float
    """FLOPs of the stage's training of one seed."""
    annotation: float | None
    """FLOPs of the stage's annotation; None where the judge's size is not known."""
    generation: float
    """FLOPs of the samples of one seed."""
    total: float
    """FLOPs of all three, and of the stages before."""


def plan(question: PlanQuestion) -> Iterator[str]:
    """Lines that tell the plan. Raises StepError for models that cannot be read, and for what cannot fit."""
    machine = _machine(question)
    model = _first(question, TrainConfig).model
    assert model
    decoder = Decoder.from_config(_config(model))
    judge = _judge(question)
    yield (
        f"model: {decoder.parameters:,} parameters, of which {decoder.shape.parameters:,} are multiplied "
        f"with a token, {decoder.shape.layers} layers, vocabulary {decoder.shape.vocabulary:,}"
    )
    if judge:
        yield f"judge: {judge.parameters:,} parameters are multiplied with a token"
    spent: dict[str, float] = {}
    for nodes in question.stages:
        yield ""
        yield from _stage(question, nodes, decoder, judge, machine, spent)
    yield ""
    yield from _assumed(question, machine, judge)


def _stage(
    question: PlanQuestion,
    nodes: Sequence[Node],
    decoder: Decoder,
    judge: ModelShape | None,
    machine: _Machine,
    spent: dict[str, float],
) -> Iterator[str]:
    """Lines of a stage. `spent` are the FLOPs of the stages before by arm, to which the stage's are added."""
    arms, reference = _arms(nodes), _reference(nodes)
    prepare = next(node.config for node in nodes if isinstance(node.config, PrepareConfig))
    length, settings = prepare.prepare.sequence_length, arms[0].train.train
    processes = 1 if settings.num_proc_per_node == AUTO else int(settings.num_proc_per_node)
    ranks = settings.num_nodes * processes
    available = machine.available if machine.gpu else machine.available / processes
    fitting = fit(settings, decoder, length, ranks=ranks, gpu=machine.gpu, available=available)
    yield f"stage {nodes[0].stage}:"
    yield from _memory(fitting, ranks, length)
    batch = settings.batch_sequences(length) * length
    one = training_flops(decoder.shape, question.document_tokens, min(question.document_tokens, length) / 2)
    judged = _judged(question, judge)
    if judge and judged:
        yield f"  r (FLOPs to annotate a document / to train on it once): {judged / one:.2f}"
    rounds = _rounds(question, nodes, decoder.shape, settings.max_tokens)
    costs = _costs(question, arms, reference, decoder, length, judged, spent, rounds)
    yield f"  {batch:,} tokens a step"
    if rounds:
        yield (
            f"  {rounds.number} rounds, each of {rounds.samples:,.0f} answers of {rounds.answer:,.0f} tokens "
            "and a training; without the answers to held-out prompts, for which no arm pays"
        )
    rows = (_row(arm, costs[arm.name], batch, machine, rounds) for arm in arms)
    yield from _table([_titles(machine, rounds), *rows])
    spent.update({name: cost.total for name, cost in costs.items()})
    if reference:
        total = costs[reference].total
        yield f"  all arms end at the FLOPs of {reference}: {total:.2e}, with annotation and earlier stages"
        for name in (name for name, cost in costs.items() if not cost.steps):
            yield (
                f"  nothing would be left to train {name} with: it has spent {costs[name].total:.2e} FLOPs "
                "before; lower samplePercent, take a smaller judge, raise maxTokens, or set comparison to "
                "EqualTokens"
            )


def _costs(
    question: PlanQuestion,
    arms: Sequence[_Arm],
    reference: str | None,
    decoder: Decoder,
    length: int,
    judged: int | None,
    spent: Mapping[str, float],
    rounds: _Rounds | None,
) -> dict[str, _Cost]:
    """What each arm costs, by its name. Arms end at the FLOPs of `reference`, as trainings plan themselves
    (train/before.py); where there is none, after the tokens that they are given."""
    batch = arms[0].train.train.batch_sequences(length) * length
    step = training_flops(decoder.shape, batch, min(question.document_tokens, length) / 2)
    # Of one pass over what an arm of 100 % trains on.
    documents = max(arm.train.train.max_tokens for arm in arms) / question.document_tokens
    times, generation = 1, 0.0
    if rounds:
        times, generation = rounds.number, rounds.number * rounds.generation
        documents = rounds.number * rounds.samples
    found: dict[str, _Cost] = {}
    for arm in sorted(arms, key=lambda arm: arm.name != reference):
        annotation = judged * documents * arm.percent / 100 if judged is not None else None
        before = spent.get(arm.name, 0.0) + (annotation or 0.0) + generation
        steps = times * arm.train.train.steps(length)
        if reference and arm.name != reference:
            steps = max(0, round((found[reference].total - before) / step))
        found[arm.name] = _Cost(steps, steps * step, annotation, generation, before + steps * step)
    return found


def _rounds(question: PlanQuestion, nodes: Sequence[Node], shape: ModelShape, most: int) -> _Rounds | None:
    """The rounds of a stage that has such. Prompt and answer together are a document of the question's
    length; where all prompts are taken, as many are as make one pass over the round's `most` tokens."""
    generations = [
        node.config.generation
        for node in nodes
        if isinstance(node.config, GenerateConfig) and not node.config.prefixes
    ]
    if not generations:
        return None
    asked, tokens = generations[0], question.document_tokens
    answer = min(asked.max_tokens, tokens / 2)
    prompts = asked.prompts_per_round or most / tokens / asked.samples_per_prompt
    # A prompt is read once for all of its answers.
    computed = tokens - answer + asked.samples_per_prompt * answer
    return _Rounds(
        max(node.round or 0 for node in nodes if isinstance(node.config, TrainConfig)),
        prompts * asked.samples_per_prompt,
        answer,
        prompts * judging_flops(shape, computed, tokens),
    )


def _row(arm: _Arm, cost: _Cost, batch: int, machine: _Machine, rounds: _Rounds | None) -> tuple[str, ...]:
    annotation = cost.annotation
    both = cost.training + cost.generation + (annotation or 0.0)
    return (
        arm.name,
        str(arm.seeds),
        f"{cost.steps * batch:,}",
        f"{cost.steps:,}",
        f"{cost.training:.2e}",
        "unknown" if annotation is None else f"{annotation:.2e}",
        "" if annotation is None or not both else f"{100 * annotation / both:.1f} %",
        *([f"{cost.generation:.2e}"] if rounds else []),
        *_hours(machine, cost.training * arm.seeds, annotation),
    )


def _titles(machine: _Machine, rounds: _Rounds | None) -> tuple[str, ...]:
    hours = ("GPU-hours", "to annotate") if machine.device else ()
    generation = ("generation",) if rounds else ()
    known = ("arm", "seeds", "tokens", "steps", "training", "annotation", "of its cost")
    return (*known, *generation, *hours)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _memory(fitting: Fit, ranks: int, length: int) -> Iterator[str]:
    spread = "sharded over" if fitting.training.sharded else "on each of"
    again = {"None": "nothing", "Selective": "all but products and attention", "Full": "whole layers"}
    yield (
        f"  memory of a rank: {fitting.memory}, {spread} {ranks} rank{'s' if ranks > 1 else ''}, "
        f"{fitting.rows} x {length} tokens at once, computed again: {again[fitting.mode]}"
    )


def _hours(machine: _Machine, training: float, annotation: float | None) -> tuple[str, ...]:
    """GPU-hours of all seeds' training, and of the annotation, which they share."""
    if machine.device is None:
        return ()
    trained = training / (machine.device.flops * TRAINING_SHARE) / 3600
    judged = None if annotation is None else annotation / (machine.device.flops * JUDGING_SHARE) / 3600
    return f"{trained:,.1f}", "unknown" if judged is None else f"{judged:,.1f}"


def _assumed(question: PlanQuestion, machine: _Machine, judge: ModelShape | None) -> Iterator[str]:
    yield f"assumed: {machine.said}; documents of {question.document_tokens:,} tokens, one pass over them"
    if judge:
        yield (
            f"assumed: answers of {question.answer_tokens:,} tokens, {RUBRIC_TOKENS} of the rubric, all "
            "valid; annotation that arms share is counted for each"
        )
    if machine.device:
        yield (
            f"assumed: {100 * TRAINING_SHARE:.0f} % of the peak of {machine.device.flops:.3g} FLOP/s in "
            f"training, {100 * JUDGING_SHARE:.0f} % in judging"
        )


def _arms(nodes: Sequence[Node]) -> list[_Arm]:
    """The arms of a stage; an arm's seeds train alike."""
    bands = {
        node.name: node.config.to_percent - node.config.from_percent
        for node in nodes
        if isinstance(node.config, AnnotateConfig) and not node.config.holdout and node.config.judge
    }
    paid = {
        node.arm: sum(
            bands.get(name, 0) for role, name in node.inputs.items() if role.startswith("feedback/")
        )
        for node in nodes
        # Of rounds, which have no other documents than their own, the first says as much as all.
        if isinstance(node.config, PrepareConfig) and node.round in (None, 1)
    }
    trains = [
        (node.arm, node.config)
        for node in nodes
        if isinstance(node.config, TrainConfig) and node.round in (None, 1)
    ]
    names = dict.fromkeys(name for name, _ in trains)
    return [
        _Arm(
            name,
            sum(arm == name for arm, _ in trains),
            next(c for arm, c in trains if arm == name),
            paid[name],
        )
        for name in names
    ]


def _reference(nodes: Sequence[Node]) -> str | None:
    """The arm at whose FLOPs the others end; None where every arm's tokens are given."""
    read = {
        name
        for node in nodes
        if isinstance(node.config, TrainConfig)
        for role, name in node.inputs.items()
        if role.startswith("reference/")
    }
    return next((node.arm for node in nodes if node.name in read), None)


def _judged(question: PlanQuestion, judge: ModelShape | None) -> int | None:
    """FLOPs to annotate one document; None where the judge's size is not known."""
    if judge is None:
        return 0
    if not judge.parameters:
        return None
    tokens = question.document_tokens + RUBRIC_TOKENS + question.answer_tokens
    return judging_flops(judge, tokens, tokens / 2)


def _judge(question: PlanQuestion) -> ModelShape | None:
    """The shape of the judge, without parameters where nobody knows them; None for a run without one."""
    judges = (node.config.judge for nodes in question.stages for node in nodes
              if isinstance(node.config, InventoryConfig))  # fmt: skip
    found: Judge | None = next(filter(None, judges), None)
    if found is None:
        return None
    if found.source is None:
        return ModelShape(found.active_parameters or 0, 0, 0, 0)
    return ModelShape.from_folder(local_config(found.source, found.revision, found.credentials_secret_ref))


def _config(model: ModelSource) -> Mapping[str, object]:
    place = model.source or model.config
    assert place
    return config_in(local_config(place, model.revision, model.credentials_secret_ref))


def _first(question: PlanQuestion, kind: type[TrainConfig]) -> TrainConfig:
    configs = (node.config for nodes in question.stages for node in nodes)
    return next(config for config in configs if isinstance(config, kind))


def _machine(question: PlanQuestion) -> _Machine:
    if question.gpu:
        device = device_of(question.gpu)
        if device is None:
            raise StepError(
                Exit.USAGE, f"no GPU called {question.gpu} is known", "name one such as H100 or H200"
            )
        return _Machine(f"{question.gpu} of {device.gigabytes} GB", device, True, device.gigabytes * 1e9)
    if not question.here:
        return _Machine("processors, with as much memory as is needed", None, False, math.inf)
    if found := _own_gpu():
        name, available = found
        return _Machine(
            f"this machine's {name} of {available / 1e9:.0f} GB", device_of(name), True, available
        )
    memory = _own_memory()
    return _Machine(f"this machine's {memory / 1e9:.0f} GB of memory", None, False, memory)


def _own_gpu() -> tuple[str, float] | None:
    """Name and bytes of this machine's smallest GPU, as NVIDIA's driver tells them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    told = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False).stdout
    found = []
    for line in told.splitlines():
        name, _, mebibytes = line.rpartition(",")
        with suppress(ValueError):
            found.append((float(mebibytes) * 2**20, name.strip()))
    return (min(found)[1], min(found)[0]) if found else None


def _own_memory() -> float:
    """Bytes of memory that this process may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total
