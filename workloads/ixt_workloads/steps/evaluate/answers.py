"""A model's answers to held-out prompts, verified: what Evaluate has as its input `samples`."""

import json
from collections.abc import Iterator
from typing import Any

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.verifiers import Verifier
from ixt_workloads.data.parquet import rows_of
from ixt_workloads.rollouts import Answered, figures
from ixt_workloads.steps.annotate.verifying import COLUMNS, sample_of
from ixt_workloads.steps.generate.samples import CUT
from ixt_workloads.store import Artifact
from ixt_workloads.verify import Verifying

_OURS = ("prompt_id", "prefix", "finish", "completion_tokens")


def score_answers(samples: Artifact, verifier: Verifier) -> dict[str, dict[str, Any]]:
    """Figures of the answers by the prefix that was asked for, see `rollouts.figures`.

    Raises StepError for a verifier that cannot be used, and where there is no answer at all.
    """
    found = list(_answered(samples, verifier))
    if not found:
        raise StepError(
            Exit.DATA,
            "there are no answers to held-out prompts",
            "raise evaluate.holdoutDocuments: at most a tenth of the prompts is held out",
        )
    return figures(found)


def _answered(samples: Artifact, verifier: Verifier) -> Iterator[Answered]:
    with Verifying(verifier) as verifying:
        for path in samples.paths:
            if not path.startswith("docs-"):
                continue
            rows = rows_of(samples.file(path), [*COLUMNS, *_OURS])
            verdicts = verifying.verify([sample_of(row) for row in rows])
            for row, verdict in zip(rows, verdicts, strict=True):
                yield Answered(
                    prompt=row["prompt_id"],
                    prefix=row["prefix"],
                    completion=row["completion"] or "",
                    right=verifier.passes(verdict.score),
                    score=verdict.score,
                    cut=row["finish"] == CUT,
                    tokens=row["completion_tokens"],
                )


def sentence(found: dict[str, dict[str, Any]]) -> str:
    """A line for the status: pass@1 and pass@k by prefix."""
    said = []
    for prefix, each in found.items():
        most = max(map(int, each["passAt"]))
        more = f" (pass@{most} {100 * each['passAt'][str(most)]:.1f} %)" if most > 1 else ""
        said.append(f"{prefix.lower()} {100 * each['passAt']['1']:.1f} %{more}")
    return f"pass@1 {', '.join(said)}"


def encoded(found: dict[str, dict[str, Any]]) -> bytes:
    """`rollout.json`."""
    return json.dumps(found, indent=1, sort_keys=True).encode()
