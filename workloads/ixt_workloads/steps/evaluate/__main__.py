"""Evaluate's process: scores the trained model on tasks and held-out documents, and lets it write samples."""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from ixt_workloads import models
from ixt_workloads.attention import ATTENTION
from ixt_workloads.contract.configs import EvaluateConfig
from ixt_workloads.contract.metrics import SCORE
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.settings import EvalPrefix, Prepare
from ixt_workloads.data.pinned import check_tasks
from ixt_workloads.data.questions import Question
from ixt_workloads.evaluation import Evaluation, tell
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.flops import ModelShape, judging_flops
from ixt_workloads.frame import Step, main
from ixt_workloads.rollouts import ANSWERS
from ixt_workloads.steps.evaluate.answers import encoded, score_answers, sentence
from ixt_workloads.tokenizer import load_tokenizer
from ixt_workloads.trackers import tracking

if TYPE_CHECKING:
    from ixt_workloads.harness.scores import Found

PROMPTS = 3
"""Prompts of which samples are shown, each at every level."""

Json = dict[str, Any]


def run(step: Step) -> Result:
    """Evaluate one model; commits `evaluation.json`, and `rollout.json` where its answers to held-out prompts
    are an input. Of a model before the first round there are only those."""
    if "train" not in step.task.inputs:
        return _answers_alone(step)
    with tracking(step, step.config.trackers) as trackers:
        result = _evaluate(step)
        trained = step.input("train").manifest.summary
        trackers.add(trained["steps"], trained["tokens"], step.reporter.figures(), result.flops)
    return result.model_copy(update={"message": trackers.said(result.message)})


def _evaluate(step: Step) -> Result:
    config: EvaluateConfig = step.config
    trained, prepared = step.input("train"), step.input("prepare")
    check_tasks(config.evaluate.tasks, step.task.pins)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with models.gathered(trained) as folder:
        tokenizer = load_tokenizer(folder)
        # In the dtype that it was saved in, as it will be served.
        model = models.load_model(folder, dtype=None).to(device).eval()
    # A preimage leaves out defaults: the model has them.
    length = Prepare.model_validate(prepared.manifest.preimage["config"].get("prepare", {})).sequence_length
    evaluation = Evaluation.of(config, prepared, tokenizer, length)

    def scored(tokens: int) -> None:
        step.reporter.update(tokens, evaluation.tokens, "tokens", "scoring")

    model.set_attn_implementation(ATTENTION)
    scores = evaluation.score(model, device, beat=scored)
    tell(scores, step.reporter)
    step.reporter.update(evaluation.tokens, evaluation.tokens, "tokens", "writing samples")
    # The only one that each family has, and that does all that it asks for with a cache of keys and values.
    model.set_attn_implementation("eager")
    samples = [
        {"level": level, "prompt": prompt, "text": _write(model, evaluation, prompt, feedback, config)}
        for prompt in _prompts(evaluation.tasks, evaluation.holdout)
        for level, feedback in _levels(evaluation.contract)
    ]
    controllability = _controllability(scores)
    answers = _answers(step)

    found = {"scores": scores, "controllability": controllability, "samples": samples}
    shape, dtype = ModelShape.from_config(model.config.to_dict()), str(model.dtype)
    held = [model]
    del model
    # A large model is given up there, for vLLM's.
    asked = _by_harness(step, held)
    flops = judging_flops(shape, evaluation.tokens + (asked.tokens if asked else 0), length / 2)
    summary = {"tasks": scores["tasks"], "documents": scores["documents"], "controllability": controllability}
    writer = step.writer()
    files = {"evaluation.json": json.dumps(found, ensure_ascii=False).encode()}
    if answers:
        files["rollout.json"] = encoded(answers)
        summary["rollout"] = answers
    if asked:
        files |= asked.files()
        summary["harness"] = asked.accuracies()
    for name, data in files.items():
        writer.add(name, data)
    artifact = writer.commit(
        {**summary, "flops": flops},
        list(files),
        {"torch": torch.__version__, "dtype": dtype},
    )
    said = (_sentence(scores), sentence(answers) if answers else "", asked.sentence() if asked else "")
    return Result(
        outcome=Outcome.COMMITTED,
        key=artifact.key,
        message="; ".join(filter(None, said)),
        flops={"evaluation": flops},
    )


def _by_harness(step: Step, held: list[Any]) -> "Found | None":
    """What the model scores on the harness's tasks; None where there are none. `held` is emptied of it."""
    config: EvaluateConfig = step.config
    if config.evaluate.harness is None:
        return None
    # Imported here: the harness takes seconds.
    from ixt_workloads.harness.scores import ask

    pin = step.task.preimage["inputs"]["harness"]
    step.reporter.update(0, None, "requests", "loading the harness's tasks")
    return ask(step.input("train"), config, step.reporter, pin, held)


def _answers(step: Step) -> dict[str, Json]:
    """Figures of the model's answers to held-out prompts by prefix; nothing where there are none."""
    config: EvaluateConfig = step.config
    if "samples" not in step.task.inputs or config.verifier is None:
        return {}
    step.reporter.update(0, None, "answers", "verifying answers to held-out prompts")
    found = score_answers(step.input("samples"), config.verifier)
    for prefix, each in found.items():
        step.reporter.set(SCORE, each["passAt"]["1"], prefix, ANSWERS)
    return found


def _answers_alone(step: Step) -> Result:
    answers = _answers(step)
    writer = step.writer()
    writer.add("rollout.json", encoded(answers))
    artifact = writer.commit({"rollout": answers, "flops": 0}, ["rollout.json"])
    return Result(outcome=Outcome.COMMITTED, key=artifact.key, message=sentence(answers) if answers else "")


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


if __name__ == "__main__":
    main(run)
