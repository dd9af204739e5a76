"""What arms are compared by."""

from enum import StrEnum

from ixt_workloads.steps.report.numbers import decimal


class Measure(StrEnum):
    """What is compared; both are better when they are higher."""

    ACCURACY = "Accuracy"
    LOG_PROBABILITY = "LogProbability"
    """log p of the held-out documents without prefix, in nats a token."""

    @property
    def sign(self) -> int:
        """What a quality is multiplied with to be shown: a log-probability is shown as a loss."""
        return 1 if self is Measure.ACCURACY else -1

    @property
    def digits(self) -> int:
        """Digits behind the point that a quality has, and a difference of two."""
        return 2 if self is Measure.ACCURACY else 3

    def shown(self, value: float | None, digits: int | None = None) -> str:
        """A quality as the report shows it: an accuracy or a loss."""
        return decimal(None if value is None else self.sign * value, digits or self.digits)

    def named(self, value: float) -> str:
        """A quality with what it is."""
        if self is Measure.ACCURACY:
            return f"{self.shown(value)} accuracy"
        return f"a loss of {self.shown(value)} nats a token on held-out documents"
