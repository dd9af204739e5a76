"""Which run, step and lane holds how many GPUs and since when, and what waits for some. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from ixt_operator.adapters.kubernetes.conditions import holding
from ixt_operator.adapters.kubernetes.holding import held
from ixt_operator.adapters.kubernetes.pod import blocked, label_of, phase_of, waits_for
from ixt_operator.render.names import CHILD, RUN, Object, fields_of_node
from ixt_workloads.contract.graph import OfNode

HEAD = ("NAMESPACE", "RUN", "STEP", "PODS", "GPUS", "CPUS", "FOR", "WAITS FOR")


class Row(NamedTuple):
    """One step, of one lane, or one judge: what it holds, or what it waits for."""

    namespace: str
    run: str
    step: str
    pods: int
    gpus: int
    cpus: float
    since: float
    """Unix seconds since when its first pod has had its node; of one that waits, 0."""
    waits: str


def rows(pods: Iterable[Object], jobs: Iterable[Object]) -> list[Row]:
    """What holds most comes first, then what waits. `jobs` are those of runs: one that a queue holds back
    has no pods."""
    groups: dict[tuple[str, str, bool], list[Object]] = defaultdict(list)
    for pod in pods:
        if phase_of(pod) in ("Pending", "Running") and label_of(pod, CHILD):
            waits = held(pod)["held_since"] is None
            groups[pod["metadata"].get("namespace", ""), label_of(pod, CHILD), waits].append(pod)
    found = [_row(group, waits) for (*_, waits), group in groups.items()]
    found += [
        Row(*_names(job), int(job["spec"]["parallelism"]), 0, 0.0, 0.0, waits_for(job))
        for job in jobs
        if job["spec"].get("suspend") and not holding(job, "Failed", "Complete")
    ]
    return sorted(found, key=lambda row: (bool(row.waits), -row.gpus, -row.cpus, row[:3]))


def _row(pods: list[Object], waits: bool) -> Row:
    holds = [held(pod) for pod in pods]
    why = next((said for pod in pods if (said := blocked(pod, {})[0])), "a node") if waits else ""
    return Row(
        *_names(pods[0]),
        len(pods),
        sum(each["gpus"] for each in holds),
        sum(each["cpus"] for each in holds),
        0.0 if waits else min(each["held_since"] for each in holds),
        why,
    )


def _names(manifest: Object) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    node = OfNode(**fields_of_node(metadata.get("labels", {})))
    return metadata.get("namespace", ""), label_of(manifest, RUN), node.node


def table(found: Iterable[Row], now: float) -> list[tuple[str, ...]]:
    """Rows as words, below their head."""
    lines: list[tuple[str, ...]] = [HEAD]
    lines += (
        (
            row.namespace,
            row.run,
            row.step,
            str(row.pods),
            str(row.gpus),
            f"{row.cpus:g}",
            _age(now - row.since) if row.since else "",
            row.waits,
        )
        for row in found
    )
    return lines


def _age(seconds: float) -> str:
    """How long, as kubectl shows ages."""
    left = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if left >= 2 * size:
            return f"{left // size}{unit}"
    return f"{left}s"
