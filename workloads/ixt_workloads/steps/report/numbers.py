"""Numbers as people read them: the same on the page, in the verdict and on the charts."""

import math
from collections.abc import Iterable
from statistics import fmean

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def flops(value: float | None) -> str:
    """FLOPs or other large counts with two digits and a power of ten: 3.1 × 10¹⁵."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    digits = f"{value / 10**power:.1f}"
    if digits == "10.0":
        digits, power = "1.0", power + 1
    return f"{digits}\u00a0×\u00a010{superscript(power)}"


def superscript(power: int) -> str:
    """An exponent in superscript digits."""
    return str(power).translate(_SUPERSCRIPTS)


def count(value: float | None) -> str:
    """A whole number with narrow spaces between thousands."""
    return "–" if value is None else f"{round(value):,}".replace(",", "\u202f")


def decimal(value: float | None, digits: int = 2) -> str:
    """A number with a fixed number of digits, a true minus sign and no negative zero."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def ratio(value: float | None) -> str:
    """A ratio with two or more significant digits: 0.45, 1.3, 17, 0.0031."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    return decimal(value, max(0, 1 - power) if power else 1)


def percent(value: float | None) -> str:
    """Percent with the digits that matter: 12 %, 3.4 %, 0.07 %."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 10 or value == int(value) else 1 if abs(value) >= 1 else 2
    return f"{decimal(value, digits)}\u202f%"


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of those values that are known and finite; None without any."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(found) if found else None
