"""The model card of an export: what it was trained from and on, how it is asked, and how good it is."""

import json
import math
from collections.abc import Iterator, Sequence

from ixt_workloads.contract.exported import ExportQuestion
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.store import Artifact

SURE = 1.96
"""Standard deviations of a 95 % interval."""


def card(
    question: ExportQuestion,
    trained: Artifact,
    contract: Prefixes | None,
    evaluated: Artifact | None,
    report: Artifact | None,
) -> str:
    """The card as Markdown, with the fields of the hub's metadata that a person must fill in."""
    parts = [
        _front(),
        f"# {question.name}",
        "Trained by ixt (Introspective X Training, arXiv 2605.20285).",
        _section(
            "Trained from", [f"Model: {question.model}", *(f"Data: {uri}" for uri in question.datasets)]
        ),
        _section("Training", _training(trained)),
        _section("Feedback", _feedback(question, contract)),
        *_figures(evaluated),
        *_verdict(report, question.stage),
        _section("Lineage", [f"{node}: `{key}`" for node, key in question.lineage.items()]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _front() -> str:
    lines = [
        "---",
        "library_name: transformers",
        "tags: [ixt]",
        "# To be filled in by whoever publishes it; licences of model and data bind the result:",
        "# license:",
        "# language:",
        "# base_model:",
        "# datasets:",
        "---",
    ]
    return "\n".join(lines)


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)]) if lines else ""


def _training(trained: Artifact) -> list[str]:
    found = trained.summary
    loss = found["finalLoss"]
    return [
        f"{found['tokens']:,} tokens in {found['steps']:,} steps, {found['epochs']:.2f} epochs",
        f"final training loss {loss:.3f} nats a token" if isinstance(loss, float) else "no loss",
        *(
            [f"these are the weights of step {step:,}, the best on held-out documents"]
            if (step := found.get("exportedStep"))
            else []
        ),
        f"{found['flops']:.3e} FLOPs of training, {found['parameters']:,} parameters in products",
        f"settings: `{json.dumps(trained.manifest.preimage['config'], sort_keys=True)}`",
    ]


def _feedback(question: ExportQuestion, contract: Prefixes | None) -> list[str]:
    if contract is None:
        return ["none: the model was trained on plain text"]
    where = "in the system text of conversations" if contract.chat else "in front of texts"
    asked = [
        f"Format {contract.format.value}, levels 1 (worst) to {contract.levels} (best), {where}",
        f"This tokenizer asks for: {question.prefix}",
    ]
    texts = [f"Level {level}: `{json.dumps(text)}`" for level, text in sorted(contract.by_level.items())]
    rubric = [f"Rubric: {' '.join(question.rubric.split())}"] if question.judge else []
    return [f"Judge: {question.judge or 'none; scores that the data carried'}", *rubric, *asked, *texts]


def _figures(evaluated: Artifact | None) -> Iterator[str]:
    if evaluated is None:
        return
    scores = evaluated.read_json("evaluation.json")["scores"]
    rows = [
        (name, prefix, *_interval(found["accuracy"], found["items"]), f"{found['items']:,}")
        for name, by_prefix in scores["tasks"].items()
        for prefix, found in by_prefix.items()
    ]
    if rows:
        head = ("task", "asked for", "accuracy", "95 % interval", "questions")
        yield "\n".join(["## Evaluation", "", *_table(head, rows)])
    losses = [f"{prefix}: {found['nll']:.4f}" for prefix, found in scores["documents"].items()]
    yield _section("Held-out loss, nats a token, by prefix", losses)


def _interval(share: float, number: int) -> tuple[str, str]:
    """A share with its 95 % interval over the questions (Wilson's)."""
    middle = (share + SURE**2 / (2 * number)) / (1 + SURE**2 / number)
    spread = math.sqrt(share * (1 - share) / number + (SURE / (2 * number)) ** 2) / (1 + SURE**2 / number)
    return f"{share:.3f}", f"{middle - SURE * spread:.3f} to {middle + SURE * spread:.3f}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


def _verdict(report: Artifact | None, stage: str) -> Iterator[str]:
    if report is None:
        return
    found = next((each for each in report.read_json("report.json")["stages"] if each["name"] == stage), None)
    if found:
        verdict = found["verdict"]
        yield _section("Compared with the run's other arms", [verdict["headline"], verdict["seeds"]])
