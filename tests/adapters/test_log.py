"""Lines of pods' logs, for people: one JSON object a line in a cluster, text elsewhere."""

import json

import pytest

from ixt_operator.adapters.kubernetes.log import shown

POD = "[pod/test-train-0/main] "
LINE = {"time": "2026-01-02T03:04:05.678Z", "level": "WARNING", "logger": "ixt", "message": "slow"}


def test_an_object_is_shown_by_time_level_and_message() -> None:
    assert shown(POD + json.dumps(LINE)).endswith(":04:05 WARNING slow")
    assert shown(POD + json.dumps(LINE)).startswith(POD)


def test_an_exception_stands_below_its_message() -> None:
    line = POD + json.dumps({**LINE, "exception": "Traceback\nValueError: no"})
    assert shown(line).endswith("slow\nTraceback\nValueError: no")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "plain text",
        POD + "INFO {not json}",
        POD + '{"time": 1}',
        POD + "[1]",
        POD + '{"a":' * 2000,
        POD + '{"a":' + "[" * 4000,
    ],
)
def test_what_is_no_such_object_stays(line: str) -> None:
    assert shown(line) == line
