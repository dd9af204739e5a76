"""How things look everywhere: a colour for each meaning, in tones that both of Grafana's themes have."""

from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.models import dashboard

from ixt_operator.api.status import Phase, StepState
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.metrics import DocumentResult, Spending, StepPart

GOOD, FAIR, BAD, NEUTRAL = "green", "orange", "red", "blue"
IDLE = "#8e8e8e"
FLOPS = "si:FLOP"
"""The unit of FLOPs: with SI's prefixes, since nobody reads quintillions."""

PHASES = {
    Phase.RUNNING: NEUTRAL,
    Phase.PENDING: "yellow",
    Phase.SUSPENDED: "purple",
    Phase.COMPLETE: GOOD,
    Phase.FAILED: BAD,
}
STATES = {
    StepState.WAITING: IDLE,
    StepState.RUNNING: NEUTRAL,
    StepState.COMPLETE: GOOD,
    StepState.FAILED: BAD,
}
SPENDINGS = {
    Spending.ANNOTATING: "purple",
    Spending.GENERATING: "dark-purple",
    Spending.PREPARING: "yellow",
    Spending.TRAINING: NEUTRAL,
    Spending.EVALUATING: GOOD,
    Spending.STARTING: FAIR,
    Spending.WAITING: IDLE,
    Spending.LOST: BAD,
}
DOCUMENTS = {
    DocumentResult.OK: GOOD,
    DocumentResult.BAD_JSON: FAIR,
    DocumentResult.OUT_OF_RANGE: "yellow",
    DocumentResult.TRUNCATED_THINKING: "purple",
    DocumentResult.REPETITION: "light-red",
    DocumentResult.REFUSED: BAD,
    DocumentResult.OTHER: IDLE,
}
FAULTS = {
    Fault.INFRASTRUCTURE: FAIR,
    Fault.APPLICATION: BAD,
    Fault.USER: "dark-red",
    Fault.OUT_OF_MEMORY: "purple",
    Fault.DIVERGED: "yellow",
    Fault.HUNG: NEUTRAL,
    Fault.BUSY: IDLE,
}
PARTS = {
    StepPart.DATA: "yellow",
    StepPart.FORWARD_BACKWARD: NEUTRAL,
    StepPart.EXCHANGE: FAIR,
    StepPart.UPDATE: "purple",
}
SEVERITIES = {"critical": BAD, "warning": FAIR, "info": NEUTRAL}

Colours = Mapping[Any, str]
"""Of words; most are of an enum."""


def codes(words: Colours) -> dict[str, int]:
    """A number for each word, in the order of the table: panels colour numbers, not labels."""
    return {str(word): number for number, word in enumerate(words, 1)}


def numbered(words: Colours) -> list[dashboard.ValueMapping]:
    """Shows the number of `codes` as its word in its colour."""
    return _mapped(
        {str(number): (word, words[word]) for word, number in zip(words, codes(words).values(), strict=True)}
    )


def worded(words: Colours) -> list[dashboard.ValueMapping]:
    """Shows a word in its colour."""
    return _mapped({str(word): (str(word), colour) for word, colour in words.items()})


def yes_no(yes: tuple[str, str], no: tuple[str, str]) -> list[dashboard.ValueMapping]:
    """Shows 1 and 0 as words in colours."""
    return _mapped({"1": yes, "0": no})


def _mapped(words: Mapping[str, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    options = {
        value: dashboard.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return [dashboard.ValueMap(options=options)]


def fixed(colour: str) -> dashboard.DynamicConfigValue:
    """An override that gives a field a colour."""
    return dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


Steps = list[dashboard.Threshold]


def above(*steps: tuple[float, str], base: str = GOOD) -> Steps:
    """Thresholds: the base's colour, and from each value on another."""
    return [dashboard.Threshold(None, base), *(dashboard.Threshold(value, colour) for value, colour in steps)]


PLAIN = above(base=NEUTRAL)
"""No value is good or bad."""
