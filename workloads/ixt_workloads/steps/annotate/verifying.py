"""Answers of a model as documents of an annotation: verified before the judge reads them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.verifiers import JudgeSees
from ixt_workloads.data.chat import Conversation
from ixt_workloads.data.prompts import told_of
from ixt_workloads.feedback.combining import contradicts, quotes
from ixt_workloads.steps.annotate.rows import Answer, Document, Row
from ixt_workloads.verify import Sample, Verdict, Verifying

COLUMNS = ("messages", "completion", "answer", "extra")
"""What an answer to a prompt has beside the columns of a document."""

QUOTES = "the critique quotes the reference answer and is not used"


def sample_of(row: Mapping[str, Any]) -> Sample:
    """What a verifier is told of an answer, from its row with COLUMNS."""
    columns, plain = told_of(row["extra"])
    reference = None if row["answer"] is None else json.loads(row["answer"])
    turns = Conversation.from_json(row["messages"]).turns
    prompt = turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns
    return Sample(row["completion"] or "", prompt, reference, columns, plain)


def document_of(row: Mapping[str, Any], sees: JudgeSees) -> Document:
    """An answer as a document, with what the judge is to be shown of it."""
    sample = sample_of(row)
    reference = "" if sample.reference is None else _text(sample.reference)
    text = row["text"]
    if reference and sees is JudgeSees.REFERENCE:
        text = f"{text}\n\nReference answer, which may not be quoted: {reference}"
    asked = Conversation(sample.prompt).as_text()
    return Document(row["id"], text, answer=Answer(sample, asked, reference))


def verified(
    config: AnnotateConfig, shards: Iterable[tuple[str, list[Document]]]
) -> Iterator[tuple[str, list[Document]]]:
    """The shards with a verdict on each answer, where there is a verifier. Raises StepError for one that
    cannot be used."""
    if config.verifier is None:
        yield from shards
        return
    with Verifying(config.verifier) as verifying:
        for name, documents in shards:
            samples = [each.answer.sample for each in documents if each.answer]
            verdicts = verifying.verify(samples)
            yield name, [_with(each, verdict) for each, verdict in zip(documents, verdicts, strict=True)]


def say_verdict(config: AnnotateConfig, document: Document, row: Row) -> None:
    """Put into a row of feedback, which a judge has filled or not, what is known of the answer beside it."""
    answer = document.answer
    if answer is None:
        return
    if row.critique and answer.reference:
        row.quotes = quotes(row.critique, answer.reference, answer.asked)
        if row.quotes:
            row.critique, row.reason = "", QUOTES
    verdict = answer.verdict
    if config.verifier is None or verdict is None:
        return
    row.verified, row.verdict = verdict.score, verdict.reason
    right = config.verifier.passes(verdict.score)
    row.verifier = verdict.result(right=bool(right))
    if verdict.failed:
        row.status, row.reason = "unverified", verdict.reason
        return
    if config.judge is None:
        row.status = "ok"
    row.right = right
    if config.judge and row.status == "ok" and row.score is not None and verdict.score is not None:
        scale = (float(config.judge.rubric.min_score), float(config.judge.rubric.max_score))
        row.contradicts = contradicts(row.right, row.score, scale)


def _with(document: Document, verdict: Verdict) -> Document:
    assert document.answer
    return replace(document, answer=document.answer._replace(verdict=verdict))


def _text(reference: Any) -> str:
    return reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False)
