"""The table of all metrics, from the one in the contract: `python -m ixt_operator.generate.metrics FILE`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ixt_workloads.contract.metrics import (
    METRICS,
    NODE,
    RUN,
    STEP_METRICS,
    DocumentResult,
    Metric,
    PromptResult,
    Refusal,
    SampleResult,
    Spending,
    VerifierResult,
)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


HEAD = f"""\
# Metrics

Made by `make crds` from `workloads/ixt_workloads/contract/metrics.py`. The operator serves all of them at
`/metrics`, those of runs and steps on the replica that leads. A pod of a step serves its own figures on its
port `progress`, without the labels of *node*. `charts/ixt-operator/README.md` says how Prometheus gets them.

- *run* stands for the labels {_listed(RUN)}; *step* for these and
  {_listed(NODE[2:-1])}; *node* for these and `{NODE[-1]}`.
- Series of steps are there while their run has not finished, those of a run until it is deleted.
- Counters of a step go on from attempt to attempt; gauges are those of the newest one. When the operator
  restarts, counters of steps of which pods are gone begin at 0: `rate()` and `increase()` take that as it is.
- A rate that nobody has told for a minute is 0.
- `purpose` of seconds: {_listed(Spending)}.
  All but {_listed(each for each in Spending if not each.productive)} are productive.
- `purpose` of FLOPs: `annotation`, `generation`, `training`, `evaluation`.
- `result` of documents: {_listed(DocumentResult)}.
- `result` of prompts: {_listed(PromptResult)}; of samples: {_listed(SampleResult)};
  of verified answers: {_listed(VerifierResult)}.
- `reason` of refused figures: {_listed(Refusal)}.
"""

GROUPS: dict[str, str | tuple[str, ...]] = {
    "The operator": "ixt_operator_",
    "Runs": "ixt_run",
    "Steps": ("ixt_step_", "ixt_server_"),
    "Annotation": "ixt_annotation_",
    "Rounds of a Rollout stage": ("ixt_stage_", "ixt_generation_", "ixt_verification_"),
    "Preparation": "ixt_preparation_",
    "Training": "ixt_training_",
    "Evaluation": "ixt_evaluation_",
}
"""How names begin, by what they are about."""


def table() -> str:
    """The table as Markdown."""
    return "\n".join([HEAD, *(line for group in GROUPS for line in _group(group))])


def _group(name: str) -> Iterator[str]:
    yield f"## {name}\n\n| Name | Type | Labels | What it is |\n|---|---|---|---|"
    for metric in METRICS:
        if metric.name.startswith(GROUPS[name]):
            yield f"| `{metric.name}` | {metric.type} | {_labels(metric)} | {metric.help} |"
    yield ""


def _labels(metric: Metric) -> str:
    """The labels; those that many have are named together."""
    labels = (*(NODE if metric.name in STEP_METRICS else ()), *metric.labels)
    for names, together in ((NODE, "*node*"), (NODE[:-1], "*step*"), (RUN, "*run*")):
        if labels[: len(names)] == names:
            return ", ".join(filter(None, (together, _listed(labels[len(names) :]))))
    return _listed(labels)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table())
