"""The conditioning contract: which prefixes a model was trained with, and which one asks for the best."""

from typing import Self

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.settings import FeedbackFormat, LossOnFeedback
from ixt_workloads.store import Artifact

FILE = "conditioning.json"


class Prefixes(Model):
    """What Prepare decided, Train exports in the tokenizer's files and Evaluate asks with."""

    format: FeedbackFormat
    levels: int
    thresholds: tuple[float, ...]
    """Lowest raw score of the levels 2, 3 ..., ascending."""
    by_level: dict[int, str]
    """A typical prefix of each level, 1 the worst; with critiques, the level's most frequent one. Levels that
    no document has are left out where the format needs a critique; without any document, best and worst."""
    best: str
    """The prefix that asks for the best."""
    worst: str
    """The prefix that asks for the worst, for the evaluation."""
    chat: bool
    """The prefix stands in the system text of a conversation, not in front of a document."""
    loss_on_feedback: LossOnFeedback

    @property
    def texts(self) -> dict[int, str]:
        """What asks for each level that there is."""
        return {**self.by_level, 1: self.worst, self.levels: self.best}

    @classmethod
    def read(cls, artifact: Artifact) -> Self | None:
        """The contract of a Prepare or Train artifact; None for a model that knows no feedback."""
        value = artifact.read_json(FILE)
        return None if value is None else cls.model_validate(value)
