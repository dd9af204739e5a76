"""Label selectors, as Kubernetes has them (metav1.LabelSelector)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from ixt_operator.api.meta import LabelKey, LabelValue
from ixt_operator.api.rules import Checked, Rule
from ixt_workloads.contract.base import Model


class Operator(StrEnum):
    """How a label is compared with values."""

    IN = "In"
    """The label is there, with one of the values."""
    NOT_IN = "NotIn"
    """The label is not there, or has none of the values."""
    EXISTS = "Exists"
    """The label is there."""
    DOES_NOT_EXIST = "DoesNotExist"
    """The label is not there."""


class Requirement(Checked):
    """What a label must be."""

    key: LabelKey
    """The label."""
    operator: Operator
    """How it is compared: In, NotIn, Exists or DoesNotExist."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=256)] = ()
    """What it is compared with, for In and NotIn."""

    rules = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "values are for In and NotIn, which need at least one",
            lambda self: (self.operator in (Operator.IN, Operator.NOT_IN)) == bool(self.values),
            "values",
        ),
    )

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels are so."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


class LabelSelector(Model):
    """What labels must be, all of it. An empty selector selects everything."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    """Labels with their values."""
    match_expressions: Annotated[tuple[Requirement, ...], Field(max_length=64)] = ()
    """More that labels must be."""

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether something with these labels is selected."""
        return self.match_labels.items() <= labels.items() and all(
            each.holds(labels) for each in self.match_expressions
        )
