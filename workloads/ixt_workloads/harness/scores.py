"""Asks a trained model all tasks of a harness under all prefixes, with one load of the model, and keeps what
each item gave."""

import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch

from ixt_workloads import models
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import EvalPrefix
from ixt_workloads.data.folders import context_of
from ixt_workloads.evaluation import MOST_ITEMS, Evaluation
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.harness import HARNESS, engines
from ixt_workloads.harness.asked import Asked
from ixt_workloads.harness.sandbox import sandboxed
from ixt_workloads.harness.tasks import Tasks, loaded, restart_examples
from ixt_workloads.progress import Reporter
from ixt_workloads.store import Artifact
from ixt_workloads.tokenizer import load_tokenizer

log = logging.getLogger("ixt")

Json = dict[str, Any]

ANSWERS = "harness.jsonl"
"""File of an evaluation with what was answered."""

DEFAULT_CONTEXT = 2048
"""Tokens of context of a model that does not say."""

MOST_CONTEXT = 32_768
"""More is not needed, and an engine would keep memory for it."""

MOST_SHOWN = 4000
"""Characters of an answer that are kept."""


class Trained:
    """A trained model for the time of an evaluation: loaded once, and released where vLLM takes its place."""

    def __init__(self, folder: Path, parameters: int, model: Any = None) -> None:
        """`folder` has its files as long as this is used, `parameters` counts those of its matrices; `model`
        is the model itself, where it is loaded already."""
        self.folder = folder
        self.parameters = parameters
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model

    @property
    def model(self) -> Any:
        """The model in transformers, in the dtype that it was saved in."""
        if self._model is None:
            self._model = models.load_model(self.folder, dtype=None).to(self.device).eval()
        return self._model

    def context(self) -> int:
        """Tokens that the model is let read at once."""
        found = context_of(models.load_config(self.folder).to_dict()) or DEFAULT_CONTEXT
        return min(found, MOST_CONTEXT)

    @contextmanager
    def writer(self, evaluation: Evaluation, most: int, seed: int) -> Iterator[engines.Writer]:
        """What its answers are written by."""
        if not engines.writes_by_vllm(self.parameters):
            yield engines.TransformersWriter(
                self.model, self.device, evaluation.tokenizer, evaluation.ends, seed
            )
            return
        self._model = None
        engines.released()
        with engines.vllm_engine(self.folder, most) as engine:
            yield engines.VllmWriter(engine, evaluation.ends, seed)


class Found(NamedTuple):
    """What an evaluation by a harness gives."""

    scores: Json
    """`tasks` and `items`, in the shape of evaluation.json's `scores`."""
    answers: bytes
    """A line of JSON for each item, prefix and draw."""
    tokens: int
    """Read and written."""

    def files(self) -> dict[str, bytes]:
        """Files of an evaluation's artifact."""
        return {HARNESS: json.dumps(self.scores).encode(), ANSWERS: self.answers}

    def accuracies(self) -> dict[str, dict[str, float]]:
        """By task and prefix, of tasks that have such a score."""
        return {
            name: {prefix: told["accuracy"] for prefix, told in asked.items() if "accuracy" in told}
            for name, asked in self.scores["tasks"].items()
        }

    def sentence(self) -> str:
        """A line for the status: mean over the tasks by prefix."""
        said = []
        for prefix in EvalPrefix:
            found = [asked[prefix] for asked in self.accuracies().values() if prefix in asked]
            if found:
                said.append(f"{prefix.lower()} {100 * fmean(found):.1f} %")
        return f"harness {', '.join(said)}" if said else ""


class _Item(NamedTuple):
    """One answer to an item that was scored."""

    task: str
    prefix: str
    item: int
    draw: int
    score: float | None
    answer: str
    target: str


def ask(
    artifact: Artifact, config: EvaluateConfig, reporter: Reporter, pin: str, held: list[Any] | None = None
) -> Found:
    """What a trained model scores on the tasks of its config, which were pinned as `pin`. `held` may have the
    model, which is taken out of it. Raises StepError."""
    harness = config.evaluate.harness
    assert harness
    with sandboxed(), loaded(harness, chat=config.stage_type.is_chat) as tasks:
        if tasks.pin != pin:
            raise StepError(
                Exit.DATA,
                "harness: tasks or their data have changed since they were pinned",
                "run again: they are pinned anew",
            )
        return ask_loaded(artifact, tasks, config, reporter, held)


def ask_loaded(
    artifact: Artifact,
    tasks: Tasks,
    config: EvaluateConfig,
    reporter: Reporter,
    held: list[Any] | None = None,
) -> Found:
    """The same of tasks that are loaded, within the contexts that they were loaded in."""
    with models.gathered(artifact) as folder:
        trained = Trained(folder, int(artifact.summary["parameters"]), held.pop() if held else None)
        return score(trained, tasks, config, Prefixes.read(artifact), reporter)


def score(
    trained: Trained, tasks: Tasks, config: EvaluateConfig, contract: Prefixes | None, reporter: Reporter
) -> Found:
    """Ask everything."""
    harness = config.evaluate.harness
    assert harness
    most, chat = trained.context(), config.stage_type.is_chat
    evaluation = Evaluation(
        load_tokenizer(trained.folder), contract, (), {}, config.evaluate.prefixes,
        chat=chat, max_length=most, seed=config.seed,
    )  # fmt: skip
    asked = Asked(
        evaluation, most, lambda done: reporter.update(done, None, "requests", "asking the harness")
    )
    aggregated: dict[tuple[str, str], list[Json]] = defaultdict(list)
    items: list[_Item] = []
    for written in (False, True):
        some = tasks.writing(wanted=written)
        if not some:
            continue
        with _engine(trained, asked, most, config.seed, written=written):
            for prefix in evaluation.prefixes:
                for draw in range(harness.samples if written else 1):
                    asked.prefix, asked.draw, asked.drawn = prefix, draw, harness.samples > 1
                    told = _asked(some, asked, harness.limit, chat=chat)
                    for name, task in some.items():
                        metric, found = _scored(task, told["samples"][name])
                        aggregated[name, prefix].append(
                            {"metric": metric, "metrics": _numbers(told["results"].get(name, {}))}
                        )
                        items += [
                            _Item(name, prefix, item, draw, score, answer, target)
                            for item, score, answer, target in found
                        ]
    if asked.unanswered:
        log.warning("%d requests did not fit the context of %d tokens", asked.unanswered, most)
    scores = _shape(tasks, evaluation.prefixes, aggregated, items)
    lines = (json.dumps(item._asdict(), ensure_ascii=False) for item in items)
    return Found(scores, "".join(f"{line}\n" for line in lines).encode(errors="replace"), asked.tokens)


@contextmanager
def _engine(trained: Trained, asked: Asked, most: int, seed: int, *, written: bool) -> Iterator[None]:
    if not written:
        asked.scorer = engines.Scorer(trained.model, trained.device)
        yield
        # Nothing holds the model when a writer takes its place.
        asked.scorer = None
        return
    with trained.writer(asked.evaluation, most, seed) as asked.writer:
        yield
    asked.writer = None


def _asked(tasks: dict[str, Any], asked: Asked, limit: int | None, *, chat: bool) -> Json:
    """One pass over tasks, by the harness itself."""
    from lm_eval.evaluator import evaluate

    for task in tasks.values():
        restart_examples(task)
    try:
        told: Json = evaluate(
            asked,
            {"tasks": tasks},
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            # It runs in the verifiers' sandbox: see `sandboxed`.
            confirm_run_unsafe_code=True,
        )
    except StepError:
        raise
    except ImportError as error:
        raise StepError(
            Exit.CONFIG, f"harness: a task of {', '.join(tasks)} needs what is not installed: {error}",
            "leave it out",
        ) from None  # fmt: skip
    return told


def _scored(task: Any, told: Sequence[Json]) -> tuple[str | None, list[tuple[int, float | None, str, str]]]:
    """The metric that a task's items are told by, and each item with its score: the first metric, under the
    first filter, whose mean over items is the task's score and which is better when it is higher. A task that
    is scored over all items together, as by perplexity, has none."""
    from lm_eval.api.metrics import mean

    first = next((each["filter"] for each in told), "none")
    rows = [each for each in told if each["filter"] == first]
    better, means = task.higher_is_better(), task.aggregation()
    names = rows[0]["metrics"] if rows else []
    metric = next(
        (
            name
            for name in names
            if better.get(name, True) and means.get(name, mean) is mean
            and all(_share(row[name]) is not None for row in rows)
        ),
        None,
    )  # fmt: skip
    found = [
        (
            row["doc_id"],
            _share(row[metric]) if metric else None,
            _answer(row),
            str(row["target"])[:MOST_SHOWN],
        )
        for row in rows
    ]
    return (f"{metric},{first}" if metric else None), sorted(found, key=lambda item: item[0])


def _share(value: Any) -> float | None:
    """A score between 0 and 1; None for what is none."""
    if isinstance(value, bool | int | float | np.number) and 0 <= float(value) <= 1:
        return float(value)
    return None


def _answer(row: Json) -> str:
    """What was answered: a text, or likelihoods."""
    said = row["resps"][0] if len(row["resps"]) == 1 else row["resps"]
    said = said[0] if isinstance(said, list) and len(said) == 1 else said
    return (said if isinstance(said, str) else json.dumps(said, default=str))[:MOST_SHOWN]


def _numbers(results: Json) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in results.items()
        if isinstance(value, int | float | np.number) and not isinstance(value, bool)
        and "," in name and "_stderr" not in name and math.isfinite(value)
    }  # fmt: skip


def _shape(
    tasks: Tasks,
    prefixes: Sequence[EvalPrefix],
    aggregated: dict[tuple[str, str], list[Json]],
    items: Sequence[_Item],
) -> Json:
    """Scores by task and prefix, and single items as evaluations keep them: see `evaluation.json`."""
    by_name: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        if item.score is not None:
            by_name[item.task, item.prefix][item.item].append(item.score)
    scored: dict[str, Json] = defaultdict(dict)
    single: dict[str, Json] = defaultdict(dict)
    for name in sorted(tasks.by_name):
        for prefix in prefixes:
            draws = aggregated[name, prefix]
            told: Json = {
                "metric": draws[0]["metric"],
                "metrics": {
                    each: fmean(draw["metrics"][each] for draw in draws) for each in draws[0]["metrics"]
                },
            }
            means = [fmean(found) for _, found in sorted(by_name[name, prefix].items())]
            if means:
                told |= {"accuracy": fmean(means), "items": len(means)}
                if prefix in (EvalPrefix.BEST, EvalPrefix.NONE):
                    single[name][prefix] = _places(means)
            scored[name][prefix.value] = told
    return {"tasks": dict(scored), "items": {"tasks": dict(single)}}


def _places(means: Sequence[float]) -> Json:
    """Sums and counts in MOST_ITEMS places at most, which more items share in turn."""
    held = np.zeros((2, min(len(means), MOST_ITEMS)))
    for place, value in enumerate(means):
        held[:, place % MOST_ITEMS] += (value, 1)
    return {"right": held[0].round(6).tolist(), "items": held[1].astype(int).tolist()}


def table(scores: Json) -> list[str]:
    """The scores as lines of text: a row for each task, a column for each prefix."""
    prefixes = [
        prefix.value for prefix in EvalPrefix if any(prefix in asked for asked in scores["tasks"].values())
    ]
    rows = [["task", "metric", "items", *(prefix.lower() for prefix in prefixes)]]
    for name, asked in scores["tasks"].items():
        first = next(iter(asked.values()))
        names = [first["metric"]] if first["metric"] else [*first["metrics"]]
        for metric in names:
            values = [
                each.get("accuracy") if metric == first["metric"] else each["metrics"].get(metric)
                for each in (asked.get(prefix, {}) for prefix in prefixes)
            ]
            shown = ["–" if value is None else f"{value:.4g}" for value in values]
            rows.append([name, metric or "–", str(first.get("items", "–")), *shown])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
