"""Evaluate's process: scores the trained model on tasks and held-out documents, and lets it write samples."""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

from ixt_workloads import models
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.settings import EvalPrefix, Prepare
from ixt_workloads.data.questions import Question, read_questions
from ixt_workloads.evaluation import TRUE, Evaluation, read_holdout
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.flops import ModelShape, judging_flops
from ixt_workloads.frame import Step, main
from ixt_workloads.tokenizer import load_tokenizer

PROMPTS = 3
"""Prompts of which samples are shown, each at every level."""

Json = dict[str, Any]


def run(step: Step) -> Result:
    """Evaluate one model; commits `evaluation.json`."""
    config: EvaluateConfig = step.config
    trained, prepared = step.input("train"), step.input("prepare")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with models.gathered(trained) as folder:
        tokenizer = load_tokenizer(folder)
        # In the dtype that it was saved in, as it will be served.
        model = models.load_model(folder, dtype=None).to(device).eval()
    contract = Prefixes.read(prepared)
    tasks = {task.name: read_questions(task) for task in config.evaluate.tasks}
    # A preimage leaves out defaults: the model has them.
    length = Prepare.model_validate(prepared.manifest.preimage["config"].get("prepare", {})).sequence_length
    holdout = read_holdout(prepared.file("holdout.parquet"))
    evaluation = Evaluation(
        tokenizer,
        contract,
        holdout,
        tasks,
        config.evaluate.prefixes,
        chat=config.stage_type.is_chat,
        max_length=length,
        seed=config.seed,
    )
    step.reporter.update(0, evaluation.tokens, "tokens", "scoring")
    scores = evaluation.score(model, device)
    step.reporter.update(evaluation.tokens, evaluation.tokens, "tokens", "writing samples")
    samples = [
        {"level": level, "prompt": prompt, "text": _write(model, evaluation, prompt, feedback, config)}
        for prompt in _prompts(tasks, holdout)
        for level, feedback in _levels(contract)
    ]
    controllability = _controllability(scores)

    found = {"scores": scores, "controllability": controllability, "samples": samples}
    summary = {"tasks": scores["tasks"], "documents": scores["documents"], "controllability": controllability}
    writer = step.writer()
    writer.add("evaluation.json", json.dumps(found, ensure_ascii=False).encode())
    artifact = writer.commit(
        summary, ["evaluation.json"], {"torch": torch.__version__, "dtype": str(model.dtype)}
    )
    shape = ModelShape.from_config(model.config.to_dict())
    return Result(
        outcome=Outcome.COMMITTED,
        key=artifact.key,
        message=_sentence(scores),
        flops={"evaluation": judging_flops(shape, evaluation.tokens, length / 2)},
        metrics=_metrics(scores, controllability),
    )


def _write(
    model: Any, evaluation: Evaluation, prompt: str, feedback: str | None, config: EvaluateConfig
) -> str:
    """What the model writes greedily after a prompt under some feedback."""
    context, _ = evaluation.ask(prompt, "", feedback)
    tokenizer = evaluation.tokenizer
    ids = torch.tensor([context], device=model.device)
    written = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=config.evaluate.max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(evaluation.ends) or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
    )
    text: str = tokenizer.decode(written[0, len(context) :], skip_special_tokens=True)
    return text


def _prompts(tasks: Mapping[str, Sequence[Question]], holdout: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tasks' first prompts, in turn; without tasks, how held-out documents begin."""
    found = [
        questions[place].prompt
        for place in range(PROMPTS)
        for questions in tasks.values()
        if place < len(questions)
    ]
    beginnings = [" ".join(str(row["text"]).split()[:8]) for row in holdout[:PROMPTS]]
    return (found or [text for text in beginnings if text])[:PROMPTS]


def _levels(contract: Prefixes | None) -> list[tuple[int, str | None]]:
    """Every level with its feedback, the best one first, and 0 without any."""
    if contract is None:
        return [(0, None)]
    ends = {1: contract.worst, contract.levels: contract.best}
    texts = {level: ends.get(level, contract.by_level.get(level)) for level in range(contract.levels, 0, -1)}
    return [*texts.items(), (0, None)]


def _controllability(scores: Json) -> dict[str, float]:
    """Accuracy asked for the best less accuracy asked for the worst, by task."""
    return {
        name: by_prefix[EvalPrefix.BEST]["accuracy"] - by_prefix[EvalPrefix.WORST]["accuracy"]
        for name, by_prefix in scores["tasks"].items()
        if EvalPrefix.BEST in by_prefix and EvalPrefix.WORST in by_prefix
    }


def _sentence(scores: Json) -> str:
    """A line for the status: mean accuracy over tasks by prefix, as in the report, and the loss."""
    tasks, documents = scores["tasks"], scores["documents"]
    parts = []
    for prefix in (EvalPrefix.BEST, EvalPrefix.NONE, EvalPrefix.WORST, EvalPrefix.RANDOM):
        found = [by_prefix[prefix]["accuracy"] for by_prefix in tasks.values() if prefix in by_prefix]
        if found:
            parts.append(f"{prefix.lower()} {100 * fmean(found):.1f} %")
    accuracy = f"accuracy {', '.join(parts)}" if parts else ""
    plain = documents.get(EvalPrefix.NONE)
    loss = f"loss {plain['nll']:.3f} on held-out documents" if plain else ""
    return "; ".join(filter(None, (accuracy, loss)))


def _metrics(scores: Json, controllability: Mapping[str, float]) -> dict[str, float]:
    """A few figures for the status: of the first tasks, so that they fit its 4 kB."""
    metrics = {
        f"documents/nll/{prefix}": found["nll"]
        for prefix, found in scores["documents"].items()
        if prefix in (EvalPrefix.NONE, TRUE, EvalPrefix.BEST)
    }
    for name, by_prefix in list(scores["tasks"].items())[:8]:
        metrics |= {f"{name}/accuracy/{prefix}": found["accuracy"] for prefix, found in by_prefix.items()}
        if name in controllability:
            metrics[f"{name}/controllability"] = controllability[name]
    return metrics


if __name__ == "__main__":
    main(run)
