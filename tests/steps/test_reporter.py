"""What a process tells of its work: rates that follow it, and how its time went."""

import json
import urllib.request
from itertools import pairwise

import pytest
from make import loopback

from ixt_workloads.contract.metrics import LOSS, TOKEN_RATE
from ixt_workloads.contract.results import Progress, Spent
from ixt_workloads.progress import Reporter


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reporter(clock: Clock) -> Reporter:
    return Reporter(clock=clock)


def rate(reporter: Reporter) -> float | None:
    return reporter.progress().per_second


def work(reporter: Reporter, clock: Clock, seconds: float, per_second: float, every: float) -> None:
    """Go on from what was done, with an update every so many seconds."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += every
        reporter.update(reporter.progress().done + per_second * every, None, "documents")


def test_a_rate_is_that_of_the_last_half_minute(reporter: Reporter, clock: Clock) -> None:
    assert rate(reporter) is None
    reporter.update(0, None, "documents")
    assert rate(reporter) is None, "one update is no rate"
    work(reporter, clock, 120, per_second=10, every=0.5)
    assert rate(reporter) == pytest.approx(10, rel=0.05)
    work(reporter, clock, 35, per_second=2, every=0.5)
    assert rate(reporter) == pytest.approx(2, rel=0.05)


def test_what_stands_still_has_no_rate_within_a_minute(reporter: Reporter, clock: Clock) -> None:
    reporter.update(0, None, "tokens")
    reporter.set(TOKEN_RATE, 500.0)
    reporter.set(LOSS, 2.0)
    work(reporter, clock, 60, per_second=10, every=1)
    before = rate(reporter) or 0.0
    clock.now += 15
    assert 0 < (rate(reporter) or 0.0) < before, "it falls"
    assert reporter.figures()[TOKEN_RATE.name][""] == 500
    clock.now += 20
    reporter.update(reporter.progress().done, None, "tokens", "still here")
    assert rate(reporter) == 0
    assert reporter.figures() == {TOKEN_RATE.name: {"": 0.0}, LOSS.name: {"": 2.0}}
    work(reporter, clock, 2, per_second=10, every=1)
    assert reporter.figures()[TOKEN_RATE.name][""] == 500


def test_what_moves_rarely_keeps_its_rate_between_updates(reporter: Reporter, clock: Clock) -> None:
    reporter.update(0, None, "blocks")
    work(reporter, clock, 600, per_second=0.01, every=100)
    for _ in range(9):
        clock.now += 30
        assert (rate(reporter) or 0) > 0
    clock.now += 60
    assert rate(reporter) == 0


def test_thousands_of_updates_a_second_are_neither_kept_nor_miscounted(
    reporter: Reporter, clock: Clock
) -> None:
    reporter.update(0, None, "tokens")
    for number in range(1, 20_001):
        clock.now += 0.005
        reporter.update(number * 50, None, "tokens")
    assert rate(reporter) == pytest.approx(10_000, rel=0.02)
    assert len(reporter._updates) < 200


def test_updates_at_one_moment_are_no_rate(reporter: Reporter) -> None:
    reporter.update(0, None, "tokens")
    reporter.update(10, None, "tokens")
    assert rate(reporter) is None


def test_a_process_says_how_its_time_went(reporter: Reporter, clock: Clock) -> None:
    clock.now += 7
    assert reporter.spent() == Spent(starting=7)
    reporter.update(0, 10, "tokens")
    clock.now += 20
    reporter.waited(5)
    assert reporter.spent() == Spent(starting=7, waiting=5, unsaved=15)
    reporter.saved(ago=4)
    assert reporter.spent().unsaved == 4
    reporter.saved(ago=15)
    assert reporter.spent().unsaved == 4, "what was saved stays so"
    clock.now += 6
    assert reporter.spent() == Spent(starting=7, waiting=5, saved=11, unsaved=10)


def test_a_process_passes_on_what_another_tells(reporter: Reporter, clock: Clock) -> None:
    clock.now += 30
    spent = Spent(starting=1, waiting=2, unsaved=3)
    told = Progress(done=5, total=9, unit="tokens", message="m", spent=spent, figures={LOSS.name: {"": 1.0}})
    reporter.relay(told)
    clock.now += 1
    found = reporter.progress()
    assert (found.done, found.total, found.unit, found.message) == (5, 9, "tokens", "m")
    assert found.figures == told.figures
    # It has just begun to work, and what it waited before is part of its start.
    assert found.spent == Spent(starting=30, waiting=1)
    clock.now += 60
    reporter.relay(told.model_copy(update={"spent": Spent(starting=1, waiting=2, saved=56, unsaved=3)}))
    assert reporter.spent() == Spent(starting=30, waiting=2, saved=56, unsaved=3)


def test_a_pod_serves_its_progress_and_its_figures() -> None:
    with loopback.part() as part:
        port = loopback.port(part)
        with Reporter("127.0.0.1", port) as reporter:
            reporter.update(1, 2, "parts", "half of it")
            reporter.set(LOSS, 2.5)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress") as answer:
                told = json.loads(answer.read())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                text = answer.read().decode()
    assert (told["done"], told["message"], told["figures"]) == (1, "half of it", {LOSS.name: {"": 2.5}})
    assert f"{LOSS.name} 2.5" in text


def test_what_is_left_is_told_by_a_rate_that_does_not_jump(reporter: Reporter, clock: Clock) -> None:
    """Steps of a tenth of a second, and every minute an evaluation that takes half a minute: by the last half
    minute's rate there would be many times as much left, and less again, each time."""
    total, left, done = 1_000_000.0, [], 0.0
    reporter.update(0, total, "tokens")
    for _ in range(20):
        for _ in range(600):
            clock.now += 0.1
            done += 10
            reporter.update(done, total, "tokens")
            left.append(reporter.progress().seconds_left)
        for _ in range(30):
            clock.now += 1
            left.append(reporter.progress().seconds_left)
    known = [seconds for seconds in left if seconds is not None]
    assert left.index(known[0]) < 40, "after some seconds"
    jumps = [max(one, two) / min(one, two) for one, two in pairwise(known)]
    assert max(jumps) < 1.5
    truth = (total - done) * 0.1 / 10 * 1.5
    assert known[-1] == pytest.approx(truth, rel=0.1)
    assert max(known) / min(known) < 4
