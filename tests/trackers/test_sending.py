"""A tracker that does not do what it should costs a step nothing but points, and is told."""

import threading
from collections.abc import Callable, Sequence

import pytest
from make.trackers import point, until

from ixt_workloads.trackers import sending
from ixt_workloads.trackers.points import Point
from ixt_workloads.trackers.sending import WAITING, RefusedError, Sender, close


class Double:
    """A tracker that keeps what it is told, once `answers` has let it."""

    def __init__(self, answers: Callable[[], None] = lambda: None) -> None:
        self.answers = answers
        self.steps: list[int] = []
        self.closed: bool | None = None

    def log(self, points: Sequence[Point]) -> None:
        self.answers()
        self.steps += [point.step for point in points]

    def close(self, *, succeeded: bool) -> None:
        self.closed = succeeded


def test_points_arrive_in_order_and_all_of_them() -> None:
    tracker = Double()
    sender = Sender("X", lambda: tracker)
    for step in range(1, 501):
        sender.put(point(step))
    close([sender], succeeded=True)
    assert tracker.steps == list(range(1, 501))
    assert tracker.closed is True
    assert sender.trouble == ""


def test_one_that_never_answers_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CLOSE_SECONDS", 0.2)
    never, asked = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        never.wait()

    sender = Sender("X", lambda: Double(hang))
    sender.put(point(1))
    assert asked.wait(60)
    for step in range(2, 3 * WAITING):
        sender.put(point(step))
    close([sender], succeeded=True)
    assert sender.trouble == f"X: it did not answer in time, {3 * WAITING - 1} points dropped"
    never.set()


def test_what_waits_is_sent_once_the_tracker_is_back() -> None:
    away = True

    def fail() -> None:
        if away:
            raise ConnectionError("connection refused")

    tracker = Double(fail)
    sender = Sender("X", lambda: tracker, retry_seconds=0.01)
    for step in range(1, 11):
        sender.put(point(step))
    until(lambda: sender.trouble == "X: connection refused")
    away = False
    until(lambda: len(tracker.steps) == 10)
    assert tracker.steps == list(range(1, 11))
    until(lambda: sender.trouble == "")
    close([sender], succeeded=False)
    assert tracker.closed is False


def test_one_that_cannot_be_opened_is_tried_again_and_at_the_end() -> None:
    tries = 0

    def opened() -> Double:
        nonlocal tries
        tries += 1
        raise ConnectionError("no route to host")

    sender = Sender("X", opened)
    sender.put(point(1))
    until(lambda: sender.trouble)
    assert tries == 1
    close([sender], succeeded=True)
    assert tries == 2
    assert sender.trouble == "X: no route to host, 1 point dropped"


def test_what_is_refused_is_not_sent_again() -> None:
    refused = True

    def refuse() -> None:
        nonlocal refused
        if refused:
            refused = False
            raise RefusedError("bad name")

    tracker = Double(refuse)
    sender = Sender("X", lambda: tracker)
    sender.put(point(1))
    until(lambda: sender.trouble)
    assert sender.trouble == "X: bad name, 1 point dropped"
    sender.put(point(2))
    until(lambda: tracker.steps)
    close([sender], succeeded=True)
    assert tracker.steps == [2]
    assert sender.trouble == "X: 1 point dropped"


def test_a_library_that_is_missing_is_told_and_its_points_are_counted() -> None:
    def opened() -> Double:
        raise ModuleNotFoundError("No module named 'x'")

    sender = Sender("X", opened)
    until(lambda: sender.trouble)
    sender._thread.join()
    for step in range(1, 4):
        sender.put(point(step))
    close([sender], succeeded=True)
    missing = "X: this image lacks its library (No module named 'x'), 3 points dropped"
    assert sender.trouble == missing


def test_no_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")

    def opened() -> Double:
        raise ValueError("the key very-secret is not valid")

    sender = Sender("X", opened)
    until(lambda: sender.trouble)
    assert sender.trouble == "X: the key *** is not valid"
    close([sender], succeeded=True)
