"""What of Grafana's own rules the driver follows before anything is drawn."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from grafana.layout import Box, arrange
from grafana.prometheus import QueryError, Source, Span, built_in, interval
from grafana.variables import Pattern, VariableError, fill, of_dashboard

BUCKETS = [
    {"metric": {"le": le}, "values": [[60, count]]}
    for le, count in (("+Inf", "7"), ("0.5", "5"), ("0.1", "2"))
]


class Answers(BaseHTTPRequestHandler):
    """A Prometheus that knows one histogram and refuses all else."""

    def do_GET(self) -> None:
        known = "buckets" in self.path
        self.send_response(200 if known else 400)
        self.end_headers()
        body = {"data": {"result": BUCKETS}} if known else {"error": "parse error"}
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def source() -> Iterator[Source]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        yield Source(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("up{run=~'$run'}", "up{run=~'(a|b\\\\.c)'}"),
        ("${run:regex} ${run:csv} [[one]]", "(a|b\\.c) a,b.c x.y"),
        ("${all} ${all:regex} $other", ".* .* $other"),
    ],
)
def test_variables_are_filled_in(text: str, filled: str) -> None:
    assert fill(text, {"run": ["a", "b.c"], "one": "x.y", "all": Pattern(".*")}, "prometheus") == filled


def test_a_variable_that_is_not_given_has_what_is_saved_or_the_first() -> None:
    listed = [
        {"name": "saved", "type": "query", "query": "label_values(x)", "current": {"value": "s"}},
        {"name": "first", "type": "query", "query": "label_values(up{a='$saved'}, x)"},
        {"name": "any", "type": "query", "query": "label_values(x)", "includeAll": True},
    ]
    found = of_dashboard({"templating": {"list": listed}}, {"given": "g"}, lambda query: [query])
    assert found == {"given": "g", "saved": "s", "first": "label_values(up{a='s'}, x)", "any": ".*"}
    falling = {"name": "first", "type": "query", "query": "label_values(x)", "sort": 2}
    assert of_dashboard({"templating": {"list": [falling]}}, {}, lambda _: ["CPU", "GPU"]) == {"first": "GPU"}
    with pytest.raises(VariableError, match="first has no value"):
        of_dashboard({"templating": {"list": listed[1:2]}}, {}, lambda _: [])


def test_rows_open_and_panels_move_up() -> None:
    inner = {"type": "stat", "gridPos": {"x": 0, "y": 1, "w": 6, "h": 4}}
    closed = {"type": "row", "gridPos": {"x": 0, "y": 3, "w": 24, "h": 1}, "panels": [inner]}
    below = {"type": "text", "gridPos": {"x": 0, "y": 4, "w": 24, "h": 2}}
    assert [box for _, box in arrange([closed, below])] == [
        Box(0, 0, 24, 1),
        Box(0, 1, 6, 4),
        Box(0, 5, 24, 2),
    ]


def test_intervals_are_round_and_no_shorter_than_a_scrape() -> None:
    hour = Span(0, 3600)
    assert [interval(hour, points, 15) for points in (60, 700, 10_000)] == [60, 15, 15]
    known = built_in(hour, 60, 15)
    assert (known["__interval"], known["__rate_interval"], known["__range"]) == ("1m", "75s", "3600s")


def test_a_heat_map_has_what_lies_between_its_buckets(source: Source) -> None:
    panel = {"targets": [{"expr": "buckets", "format": "heatmap", "refId": "A"}]}
    [frame] = source.frames(panel, Span(0, 60), 100, {})
    assert [(field["name"], field["values"]) for field in frame["fields"][1:]] == [
        ("0.1", [2]),
        ("0.5", [3]),
        ("+Inf", [2]),
    ]


def test_a_refused_query_is_named(source: Source) -> None:
    with pytest.raises(QueryError, match='panel "P": bad x: parse error'):
        source.frames({"title": "P", "targets": [{"expr": "bad $v"}]}, Span(0, 60), 100, {"v": "x"})
