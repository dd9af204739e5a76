"""What `ixt compare` asks for."""

from typing import Literal

from pydantic import Field

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.configs import ReportLane


class ComparedRun(Model):
    """A run whose lanes are reported beside those of others."""

    name: str
    storage: str
    report: str | None = None
    """Key of its report, which says what its lanes are made of; None: the two fields below do."""
    lanes: tuple[ReportLane, ...] = ()
    keys: dict[str, str] = {}
    """Of the nodes that have one. A lane counts once all of its artifacts are committed."""


class CompareQuestion(Model):
    """Runs to compare. The first is the one from which the others differ."""

    runs: tuple[ComparedRun, ...] = Field(min_length=1)
    form: Literal["html", "markdown"] = "html"
