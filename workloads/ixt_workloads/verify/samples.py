"""What is verified, and what is said of it. Pure."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ixt_workloads.contract.metrics import VerifierResult

MAX_REASON = 300
"""Characters of a reason."""
RAISED = "the verifier raised"
TOO_LONG = "the verifier took too long"
"""How reasons begin for which there is no verdict."""


@dataclass(frozen=True)
class Sample:
    """One answer of a model, with what its prompt's row has for verifiers."""

    completion: str
    """What the model said, without the prompt."""
    prompt: list[dict[str, Any]] = field(default_factory=list)
    """Turns before the answer."""
    reference: Any = None
    """The reference answer (ground truth) as JSON has it; None where there is none."""
    columns: dict[str, Any] = field(default_factory=dict)
    """All other fields of the row, by their names there."""
    plain: bool = False
    """The row's prompt is a text, not a list of turns."""

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, line: bytes) -> "Sample":
        """Undoes `to_json`."""
        return cls(**json.loads(line))


class Verdict(NamedTuple):
    """What a verifier says of a sample."""

    score: float | None
    """From 0 to 1; None where the verifier does not apply, or failed."""
    reason: str = ""
    """Why it is not 1, in a few words."""
    failed: bool = False
    """The verifier came to no verdict: it raised, took too long or was killed. The sample is invalid."""

    def result(self, *, right: bool) -> VerifierResult:
        """The kind of it; `right`: the score is one from which on an answer counts as right."""
        if self.failed:
            why = {RAISED: VerifierResult.RAISED, TOO_LONG: VerifierResult.TIMED_OUT}
            found = (result for begins, result in why.items() if self.reason.startswith(begins))
            return next(found, VerifierResult.NO_VERDICT)
        if self.score is None:
            return VerifierResult.NOT_APPLICABLE
        return VerifierResult.RIGHT if right else VerifierResult.WRONG


def failure(reason: str) -> Verdict:
    """The verifier failed on a sample."""
    return Verdict(None, reason[:MAX_REASON], failed=True)


def right(found: bool, reason: str) -> Verdict:
    """A verdict that knows right and wrong only; `reason` is said of a wrong answer."""
    return Verdict(1.0) if found else Verdict(0.0, reason[:MAX_REASON])
