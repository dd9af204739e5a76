"""What a lane paid before a training, from the manifests of what it starts from, and how long it may train
so that it ends at the FLOPs of the reference arm."""

from collections.abc import Iterable, Mapping
from typing import Any

from ixt_workloads.contract.configs import TrainConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Train
from ixt_workloads.flops import ModelShape, training_flops
from ixt_workloads.frame import Step
from ixt_workloads.store import Artifact, StoreError

PAID = ("prepare", "parent", "policy", "feedback/", "samples/")
"""Roles of the inputs that a lane pays for, and those of theirs: what it was trained on and started from,
with the rounds in which its samples were written."""

DATA = ("feedback/", "samples/")
"""Those of them that make what a Prepare reads."""


def flops_before(step: Step) -> int | None:
    """FLOPs of the stages and rounds before and of all annotation and samples that the lane reads, each
    counted once, as the report counts them. None where an artifact of them is not there any more."""
    try:
        return _spent(step, _of_roles(step.task.inputs, PAID), PAID)
    except (StoreError, KeyError):
        return None


def planned(step: Step, shape: ModelShape, sequence_length: int) -> Train:
    """The settings of the training, with maxTokens such that the lane ends at the FLOPs of the reference arm,
    annotation, prefixes and earlier stages included; as they are for a training without a reference.

    Every rank, and every attempt, finds the same: it depends on committed artifacts alone. Raises StepError
    when the arm has spent as much before it trains.
    """
    config: TrainConfig = step.config
    if not config.reference:
        return config.train
    prepares = [step.input(f"reference/{place}") for place in range(len(config.reference))]
    read = [key for each in prepares for key in _of_roles(each.manifest.preimage.get("inputs", {}), DATA)]
    total = _spent(step, read, DATA) + sum(
        stage.sequences * _of_sequence(shape, prepare.summary, stage.anneal_percent)
        for stage, prepare in zip(config.reference, prepares, strict=True)
    )
    before = flops_before(step)
    if before is None:
        raise StepError(
            Exit.NO_INPUT,
            f"what {step.task.node} has cost before is not known: an artifact of an earlier stage is gone",
            "run again, and it is made anew; or set comparison to EqualTokens",
        )
    batch = config.train.batch_sequences(sequence_length)
    own = batch * _of_sequence(shape, step.input("prepare").summary, config.anneal_percent)
    steps = round((total - before) / own)
    if steps < 1:
        raise StepError(
            Exit.CONFIG,
            f"nothing is left to train {step.task.arm} with: before its training it has spent {before:.3g} "
            f"FLOPs, annotation included, and the reference arm spends {total:.3g} in all",
            "lower samplePercent, take a smaller judge, raise maxTokens, or set comparison to EqualTokens",
        )
    return config.train.model_copy(update={"max_tokens": steps * batch * sequence_length})


def _of_roles(inputs: Mapping[str, str], roles: tuple[str, ...]) -> list[str]:
    return [key for role, key in inputs.items() if role.startswith(roles)]


def _spent(step: Step, keys: Iterable[str], roles: tuple[str, ...]) -> int:
    """FLOPs of artifacts and of what they are made of, as far as it fills these roles, each counted once.

    Raises StoreError for one that is gone, KeyError for a training that does not tell its own.
    """
    total = 0
    known: set[str] = set()
    todo = [*keys]
    while todo:
        if (key := todo.pop()) in known:
            continue
        known.add(key)
        made = Artifact.open(step.store, key).manifest
        spent = made.summary["flops"] if made.kind == "Train" else made.summary.get("flops")
        total += int(spent or 0)
        todo += _of_roles(made.preimage.get("inputs", {}), roles)
    return total


def _of_sequence(shape: ModelShape, summary: Mapping[str, Any], anneal_percent: int) -> float:
    """FLOPs of training on a sequence of a Prepare, on average."""

    def mean(sequences: str, tokens: str, squares: str) -> float:
        number, length = int(summary[tokens]), int(summary[squares]) / max(1, int(summary[tokens]))
        return training_flops(shape, number, length) / max(1, int(summary[sequences]))

    main = mean("sequences", "tokens", "squares")
    if not anneal_percent:
        return main
    share = anneal_percent / 100
    return main * (1 - share) + mean("anneal", "annealTokens", "annealSquares") * share
