"""Queries of panels, answered by Prometheus as data frames in the shapes of Grafana's data source."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana.variables import Value, fill

Frame = dict[str, Any]
Series = dict[str, Any]
"""An element of Prometheus's result: `metric`, and `value` or `values`."""

_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Round intervals in seconds."""
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class QueryError(RuntimeError):
    """Prometheus refused a query; the message says which and why."""


@dataclass(frozen=True)
class Span:
    """Times that a dashboard shows, in seconds since 1970."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Source:
    """A Prometheus, and how often it scrapes, in seconds, as its Grafana data source says."""

    url: str
    scrape_interval: float = 15

    def frames(
        self, panel: Mapping[str, Any], span: Span, points: int, variables: Mapping[str, Value]
    ) -> list[Frame]:
        """What a panel's queries find. Raises QueryError."""
        targets = [target for target in panel.get("targets") or [] if not target.get("hide")]
        tables = sum(target.get("format") == "table" for target in targets)
        frames: list[Frame] = []
        for target in targets:
            if "expr" not in target:
                name = f'panel "{panel.get("title")}", query {target.get("refId")}'
                raise QueryError(f"{name}: not a query of Prometheus")
            frames += self._answer(panel, target, span, points, variables, tables > 1)
        return frames

    def label_values(self, query: str) -> Sequence[str]:
        """The answer to `label_values(label)` or `label_values(selector, label)`."""
        if match := re.fullmatch(r"\s*label_values\((?:(.+),)?\s*(\w+)\s*\)\s*", query):
            selector, label = match.groups()
            answer = self.get(f"label/{label}/values", {"match[]": selector.strip()} if selector else {})
            return [str(value) for value in answer]
        raise QueryError(f"a variable asks {query}: only label_values is known")

    def value(self, expression: str) -> float | None:
        """What an expression without labels is now, if it is anything. Raises QueryError."""
        found: list[Series] = self.get("query", {"query": expression})["result"]
        return float(found[0]["value"][1]) if found else None

    def at(self, expression: str, time: float) -> list[Series]:
        """The answer to an expression that gives a vector. Raises QueryError, as what follows does."""
        return list(self.get("query", {"query": expression, "time": time})["result"])

    def over(self, expression: str, span: Span, step: float) -> list[Series]:
        """The answers at times that lie `step` seconds apart."""
        asked = {"query": expression, "start": span.start, "end": span.end, "step": step}
        return list(self.get("query_range", asked)["result"])

    def get(self, path: str, query: Mapping[str, Any]) -> Any:
        """What Prometheus' API has at a path."""
        address = f"{self.url.rstrip('/')}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(address, timeout=60) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                raise QueryError(json.loads(text)["error"]) from error
            except (ValueError, KeyError):
                raise QueryError(f"{error.code} {text[:200]}") from error
        except OSError as error:
            raise QueryError(f"no answer from {self.url}: {error}") from error

    def _answer(
        self,
        panel: Mapping[str, Any],
        target: Mapping[str, Any],
        span: Span,
        points: int,
        variables: Mapping[str, Value],
        many_tables: bool,
    ) -> list[Frame]:
        least = duration(fill(target.get("interval") or panel.get("interval") or "", variables, "text"))
        step = interval(span, panel.get("maxDataPoints") or points, least or self.scrape_interval)
        known = {**variables, **built_in(span, step, least or self.scrape_interval)}
        expression = fill(target["expr"], known, "prometheus")
        series: list[Series] = []
        try:
            if target.get("instant"):
                series += self.at(expression, span.end)
            if target.get("range") or not target.get("instant"):
                # Aligned, so that neighbouring pictures show the same points.
                start, end = (math.floor(at / step) * step for at in (span.start, span.end))
                series += self.over(expression, Span(start, end), step)
        except QueryError as error:
            raise QueryError(f'panel "{panel.get("title")}": {expression}: {error}') from error
        reference = target.get("refId") or "A"
        match target.get("format"):
            case "table":
                return [_table(series, reference, f"Value #{reference}" if many_tables else "Value")]
            case "heatmap":
                return _heatmap(series, reference, step)
            case _:
                legend = target.get("legendFormat") or ""
                return [_series(one, reference, step, legend, expression) for one in series]


def duration(text: str) -> float:
    """Seconds of Prometheus's `1m30s`; Grafana's `>` before it is of no matter. 0 of nothing."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|[smhdw])", text))


def written(seconds: float) -> str:
    """The reverse, in one unit."""
    for unit in ("w", "d", "h", "m", "s"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{round(seconds / _UNITS[unit])}{unit}"
    return f"{round(seconds * 1000)}ms"


def interval(span: Span, points: int, least: float) -> float:
    """Seconds between points so that there are about as many as asked for: a round number, and no less than
    `least`."""
    exact = span.length / max(points, 1)
    rounded = min(_STEPS, key=lambda step: (abs(step - exact), step)) if exact > _STEPS[0] else _STEPS[0]
    return max(rounded, least)


def built_in(span: Span, step: float, scrape_interval: float) -> dict[str, str]:
    """Grafana's own variables in queries."""
    seconds = round(span.length)
    return {
        "__interval": written(step),
        "__interval_ms": str(round(step * 1000)),
        "__rate_interval": written(max(step + scrape_interval, 4 * scrape_interval)),
        "__range": f"{seconds}s",
        "__range_s": str(seconds),
        "__range_ms": str(round(span.length * 1000)),
        "__from": str(round(span.start * 1000)),
        "__to": str(round(span.end * 1000)),
    }


def _points(series: Series) -> list[tuple[float, str]]:
    return series["values"] if "values" in series else [series["value"]]


def _number(text: str) -> float | str | None:
    """A value in JSON: infinities go as the page's own words, and what is no number as nothing."""
    value = float(text)
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _time(points: Sequence[float], step: float | None = None) -> dict[str, Any]:
    values = [round(at * 1000) for at in points]
    return {
        "name": "Time",
        "type": "time",
        "values": values,
        "config": {"interval": step * 1000} if step else {},
    }


def _series(series: Series, reference: str, step: float, legend: str, expression: str) -> Frame:
    labels = series["metric"]
    points = _points(series)
    name = _legend(labels, legend, expression)
    value = {
        "name": "Value",
        "type": "number",
        "labels": labels,
        "values": [_number(text) for _, text in points],
        "config": {"displayNameFromDS": name} if name else {},
    }
    return {"refId": reference, "name": name, "fields": [_time([at for at, _ in points], step), value]}


def _legend(labels: Mapping[str, str], legend: str, expression: str) -> str | None:
    if legend == "__auto":
        # The page names series by the labels that tell them apart.
        return None if labels else expression
    if legend:
        return re.sub(r"\{\{\s*(.+?)\s*\}\}", lambda match: labels.get(match[1], ""), legend)
    if not labels:
        return expression
    pairs = ", ".join(f'{key}="{value}"' for key, value in labels.items() if key != "__name__")
    return labels.get("__name__", "") + (f"{{{pairs}}}" if pairs else "")


def _table(series: Sequence[Series], reference: str, value_name: str) -> Frame:
    names = sorted({name for one in series for name in one["metric"]})
    rows = [(at, one["metric"], text) for one in series for at, text in _points(one)]
    fields = [_time([at for at, _, _ in rows])]
    for name in names:
        texts = [labels.get(name, "") for _, labels, _ in rows]
        fields.append({"name": name, "type": "string", "values": texts, "config": {"filterable": True}})
    numbers = [_number(text) for _, _, text in rows]
    fields.append({"name": value_name, "type": "number", "values": numbers, "config": {}})
    return {"refId": reference, "fields": fields if rows else []}


def _heatmap(series: Sequence[Series], reference: str, step: float) -> list[Frame]:
    """One frame, with a field for each bucket, of what lies between it and the one below."""
    if not series:
        return []
    counts: dict[str, dict[float, float]] = {}
    for one in series:
        bucket = counts.setdefault(one["metric"].get("le", "+Inf"), {})
        for at, text in _points(one):
            bucket[at] = bucket.get(at, 0) + float(text)
    times = sorted({at for bucket in counts.values() for at in bucket})
    fields = [_time(times, step)]
    below: Mapping[float, float] = {}
    for bound in sorted(counts, key=float):
        bucket = counts[bound]
        values = [
            _number(str(max(bucket[at] - below.get(at, 0), 0))) if at in bucket else None for at in times
        ]
        config = {"displayNameFromDS": bound}
        fields.append(
            {"name": bound, "type": "number", "values": values, "labels": {"le": bound}, "config": config}
        )
        below = bucket
    return [{"refId": reference, "fields": fields}]
