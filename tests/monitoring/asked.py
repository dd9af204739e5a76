"""What dashboards and rules ask of Prometheus, as Grafana would put it, and what an expression refers to."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser as promql
from grafana.prometheus import Source, Span, built_in
from grafana.variables import Value, fill, of_dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from ixt_dashboards.expressions import Expression, expressions, of_rules
from ixt_dashboards.files import dashboards

STEP_SECONDS = 15.0
"""Between two points of a graph."""


def asked(source: Source, span: Span, given: Mapping[str, Value]) -> list[Expression]:
    """All questions, with variables that are given, else with what the dashboard or Prometheus has for
    them."""
    found = of_rules()
    for made in dashboards():
        values = of_dashboard(json.loads(json.dumps(made, cls=JSONEncoder)), given, source.label_values)
        known = {**values, **built_in(span, STEP_SECONDS, source.scrape_interval)}
        found += [each._replace(text=fill(each.text, known, "prometheus")) for each in expressions(made)]
    return found


def selectors(expression: Any) -> Iterator[Any]:
    """The selectors of series in a parsed expression."""
    for node in nodes(expression):
        if isinstance(node, promql.VectorSelector):
            yield node
        elif isinstance(node, promql.MatrixSelector):
            yield node.vector_selector


def nodes(expression: Any) -> Iterator[Any]:
    """All parts of a parsed expression."""
    found: list[Any] = []
    promql.walk(expression, found.append)
    return iter(found)


def names(text: str) -> set[str]:
    """Names of the series that an expression asks for."""
    return {str(selector.name) for selector in selectors(promql.parse(text))}
