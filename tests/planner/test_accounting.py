"""What a run's time was spent on: each category, and that no second is lost or counted twice."""

import dataclasses
import math
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.holding import START, Books, Life, at, child

from ixt_operator.api.status import MAX_ACCOUNTS, RunStatus
from ixt_operator.planner import accounting
from ixt_operator.planner.accounting import STEP_SECONDS, saved_flops
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.metrics import Spending
from ixt_workloads.contract.results import Outcome, Result

# --- What time is spent on.

STARTING, WAITING, LOST = Spending.STARTING, Spending.WAITING, Spending.LOST
TRAINING, ANNOTATING, PREPARING = Spending.TRAINING, Spending.ANNOTATING, Spending.PREPARING
WORKS = Life(held=0, up=20, ended=120, starting=10, waits=0.1, saves_every=30)


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (WORKS, {STARTING: 30, WAITING: 9, TRAINING: 81}),
        (dataclasses.replace(WORKS, ok=False, ended=80), {STARTING: 30, WAITING: 5, TRAINING: 27, LOST: 18}),
        (dataclasses.replace(WORKS, ok=False, dumb=True), {STARTING: 20, LOST: 100}),
        (dataclasses.replace(WORKS, gpus=8), {STARTING: 240, WAITING: 72, TRAINING: 648}),
        (Life(held=5, up=None, ended=65, ok=False), {LOST: 60}),
    ],
)
def test_an_attempt_that_is_seen_at_its_end_alone(life: Life, seconds: dict[Spending, int]) -> None:
    books = Books()
    books.look([at("train", 200, life)], 200)
    assert books.gpu == seconds
    assert books.cpu == {}
    books.look([], 300)
    assert books.gpu == seconds


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_work_is_what_the_kind_does(kind: str) -> None:
    books = Books()
    books.look([at("one", 50, Life(held=0, up=0, ended=40, gpus=0, cpus=0.5), kind=kind)], 50)
    assert books.cpu == {KINDS[kind].spending: 20}
    assert books.status.goodput_percent == 100


def test_work_is_counted_when_it_is_saved() -> None:
    books, life = Books(), Life(held=0, up=0, starting=10, saves_every=60)
    seen = []
    for when in (9, 30, 60, 75, 150):
        books.look([at("train", when, life)], when)
        seen.append(dict(books.gpu))
    # A look counts what goes on up to the last full step.
    assert seen[:3] == [{}, {STARTING: 10}, {STARTING: 10}]
    assert seen[3:] == [{STARTING: 10, TRAINING: 60}, {STARTING: 10, TRAINING: 120}]
    assert books.status.goodput_percent == 92


def test_work_that_is_not_saved_yet_is_known_by_what_it_is_until_it_is_saved_or_lost() -> None:
    """So the hours of a run grow while a step runs, though it saves nothing until its end."""
    for life, end in (
        (Life(held=0, up=0, starting=10, ended=100), {STARTING: 10, TRAINING: 90}),
        (Life(held=0, up=0, starting=10, ended=100, ok=False), {STARTING: 10, LOST: 90}),
    ):
        books = Books()
        for when in (30, 60, 90):
            books.look([at("train", when, life)], when)
            assert books.gpu == {STARTING: 10}
            (account,) = books.status.internal.accounts.values()
            assert (account.work, account.unsaved) == (TRAINING, 1000 * (when - 10))
        books.look([at("train", 105, life)], 105)
        assert books.gpu == end
        (account,) = books.status.internal.accounts.values()
        assert (account.work, account.unsaved) == (None, 0)


def test_an_attempt_that_is_gone_without_a_word_has_lost_what_it_had_not_saved() -> None:
    books, life = Books(), Life(held=0, up=0, saves_every=60)
    books.look([at("train", 90, life)], 90)
    books.look([], 105)
    assert books.gpu == {TRAINING: 60, LOST: 30}


def test_an_attempt_that_is_told_to_stop_saves_what_it_has() -> None:
    books, life = Books(), Life(held=0, up=0, saves_every=60)
    books.look([at("train", 97, life)], 97, stopping=["train"])
    assert books.gpu == {TRAINING: 97}
    books.look([at("train", 105, life, deleting=True)], 105)
    books.look([], 120)
    assert books.gpu == {TRAINING: 105}


def test_what_fails_after_its_last_word_is_lost_and_what_was_counted_stays() -> None:
    books, life = Books(), Life(held=0, up=0, saves_every=60)
    books.look([at("train", 90, life)], 90)
    killed = dataclasses.replace(life, ended=100, ok=False, dumb=True)
    books.look([at("train", 101, killed)], 101)
    assert books.gpu == {TRAINING: 60, LOST: 40}


def test_index_0_speaks_for_all_ranks_and_each_worker_for_itself() -> None:
    first, second = Life(held=0, up=0, ended=60, waits=0.5), Life(held=0, up=0, ended=60, starting=60)
    books = Books()
    books.look([at("train", 60, first, second)], 60)
    assert books.gpu == {TRAINING: 60, WAITING: 60}
    books = Books()
    books.look([at("annotate", 60, first, second, kind="Annotate")], 60)
    assert books.gpu == {ANNOTATING: 30, WAITING: 30, STARTING: 60}


def test_a_server_starts_works_while_its_steps_run_and_waits() -> None:
    books, judge = Books(), Life(held=0, up=60)
    work = Life(held=70, up=90, ended=180, gpus=0, cpus=1)
    for when in (30, 75, 150, 240):
        judges = at("judge", when, judge, judge, kind="Annotate", server=True)
        books.look([judges, at("annotate", when, work, kind="Annotate")], when)
    assert books.gpu == {STARTING: 120, WAITING: 2 * 90, ANNOTATING: 2 * 90}
    assert books.cpu == {STARTING: 20, ANNOTATING: 90}
    assert books.status.goodput_percent == 37, "of GPUs, once there are any"


def test_a_servers_pods_come_and_go() -> None:
    books, first, late = Books(), Life(held=0, up=0), Life(held=60, up=75)
    for when in (60, 90):
        books.look([at("judge", when, first, late, kind="Annotate", server=True)], when)
    books.look([at("judge", 120, late, kind="Annotate", server=True)], 120)
    assert books.gpu == {WAITING: 90 + 15 + 30, STARTING: 15}


def test_an_attempt_whose_place_a_queue_took_away_is_counted_anew() -> None:
    books, first = Books(), Life(held=0, up=0, saves_every=30)
    books.look([at("train", 45, first)], 45)
    books.look([child("train", [ProcessState(index=0, phase=ProcessPhase.PENDING)])], 60)
    assert books.gpu == {TRAINING: 30, LOST: 15}
    books.look([at("train", 200, Life(held=100, up=110, ended=190))], 200)
    assert books.gpu == {TRAINING: 110, LOST: 15, STARTING: 10}


def test_flops_that_were_saved_are_told_once_for_a_stage_and_stay() -> None:
    def inventory(name: str, stage: str, flops: int) -> Observed:
        result = Result(outcome=Outcome.COMMITTED, saved_flops={"training": flops})
        ended = ProcessState(index=0, phase=ProcessPhase.SUCCEEDED, result=result)
        return Observed(children={name: child(name, [ended], "Inventory", stage=stage)})

    first, again = inventory("a", "pretrain", 7), inventory("b", "pretrain", 7)
    other = inventory("c", "midtrain", 10**20)
    both = Observed(children=first.children | again.children | other.children)
    assert saved_flops(both, RunStatus()) == {"training": str(10**20 + 7)}
    books = Books()
    cost = books.status.cost.model_copy(update={"saved_flops": saved_flops(both, RunStatus())})
    told = books.status.model_copy(update={"cost": cost})
    assert saved_flops(again, told) == saved_flops(Observed(), told) == {"training": str(10**20 + 7)}


# --- At rest, and within bounds.


def test_nothing_is_written_while_nothing_is_held_or_new() -> None:
    books, ended = Books(), at("done", 200, WORKS, Life(held=3.3, up=4.7, ended=69.9))
    pending = child("next", [ProcessState(index=0, phase=ProcessPhase.PENDING)])
    books.look([ended, pending], 500)
    before = books.status
    for when in (500, 501, 10_000):
        books.look([ended, pending], when)
        assert books.status == before


def test_between_two_steps_of_time_nothing_is_written() -> None:
    books, judge = Books(), Life(held=0, up=None)
    books.look([at("judge", 30, judge, kind="Annotate", server=True)], 30)
    before = books.status
    books.look([at("judge", 44, judge, kind="Annotate", server=True)], 30 + STEP_SECONDS - 1)
    assert books.status == before


def test_of_many_children_the_accounts_are_few_and_none_is_counted_twice() -> None:
    books, lives = Books(), [Life(held=i, up=i, ended=i + 1.5) for i in range(3 * MAX_ACCOUNTS)]
    for _ in range(2):
        for when in range(0, 4 * MAX_ACCOUNTS, 40):
            books.look([at(f"train-{i}", when, life) for i, life in enumerate(lives)], when)
            assert len(books.status.internal.accounts) <= MAX_ACCOUNTS
    assert sum(books.gpu.values()) == len(lives)  # each to the whole second


def test_accounts_that_cannot_be_read_are_not_counted_again() -> None:
    books, life = Books(), Life(held=0, up=0)
    books.look([at("train", 100, dataclasses.replace(life, saves_every=1))], 100)
    counted = sum(books.gpu.values())
    internal = books.status.internal.model_copy(update={"accounts": {}})
    books.status = books.status.model_copy(update={"internal": internal})
    for when, more in ((160, 0), (220, 50)):
        books.look([at("train", when, dataclasses.replace(life, saves_every=1))], when)
        assert sum(books.gpu.values()) == counted + more


# --- Whatever is seen.

TIMES = st.floats(0, 300).map(lambda seconds: round(seconds, 1))
LIVES = st.builds(
    lambda held, start, runs, **fields: Life(
        held=held,
        up=None if start is None else held + start,
        ended=None if runs is None else held + (start or 0) + runs,
        **fields,
    ),
    held=TIMES,
    start=st.none() | TIMES,
    runs=st.none() | TIMES,
    ok=st.booleans(),
    dumb=st.booleans(),
    starting=st.sampled_from([0.0, 12.5]),
    waits=st.sampled_from([0.0, 0.25, 1.0]),
    saves_every=st.sampled_from([1.0, 20.0, 1e9]),
)
EQUALS = st.builds(
    lambda lives, gpus, cpus: [dataclasses.replace(life, gpus=gpus, cpus=cpus) for life in lives],
    st.lists(LIVES, min_size=1, max_size=3),
    st.sampled_from([0, 1, 8]),
    st.sampled_from([0.5, 4.0]),
)
"""Processes of one child, which ask for the same."""


class Sight(NamedTuple):
    """One look: after how long, at how old an observation, of which children and processes, what it stops."""

    after: float
    age: float
    hidden: frozenset[int]
    stops: frozenset[int]


SIGHTS = st.builds(
    Sight,
    st.sampled_from([0.0, 0.4, 7.0, 15.0, 100.0]),
    st.sampled_from([0.0, 0.0, 5.0, 60.0]),
    st.frozensets(st.integers(0, 11), max_size=3),
    st.frozensets(st.integers(0, 3), max_size=1),
)


class Group(NamedTuple):
    """The processes of a child. From `again` on they are others, since a queue took their place away."""

    lives: list[Life]
    again: float | None
    clock: float
    """By how much its clocks are ahead."""

    def seen(self, number: int, when: float, server: bool, kind: str) -> tuple[ChildState, bool]:
        """The child at a time, and whether its processes are the second ones."""
        lives, second = self.lives, self.again is not None and when >= self.again - 5
        if self.again is not None and second:
            lives = [_shifted(life, self.again) for life in lives]
        lives = [_shifted(life, self.clock) for life in lives]
        return at(f"c{number}", when, *lives, kind=kind, server=server), second


GROUPS = st.builds(Group, EQUALS, st.none() | TIMES, st.sampled_from([-40.0, 0.0, 0.0, 40.0]))


@settings(max_examples=300, deadline=None)
@given(
    groups=st.lists(GROUPS, min_size=1, max_size=4),
    server=st.booleans(),
    sights=st.lists(SIGHTS, min_size=1, max_size=25),
    most=st.sampled_from([1, MAX_ACCOUNTS]),
)
def test_totals_never_fall_and_no_second_is_counted_twice(
    groups: list[Group], server: bool, sights: list[Sight], most: int
) -> None:
    """In whatever order, how late and how incompletely it is seen, and with few accounts or many."""
    books, now = Books(), 0.0
    held: dict[tuple[int, int, bool], float] = {}
    for sight in sights:
        now += sight.after
        found = []
        for number, group in enumerate(groups):
            serves, kind = server and number == 0, "Annotate" if server and number < 2 else "Train"
            whole, second = group.seen(number, now - sight.age, serves, kind)
            rest = tuple(p for p in whole.processes if 3 * number + p.index not in sight.hidden)
            found += [whole.model_copy(update={"processes": rest})] if rest else []
            for process in rest:
                ended = START + now if serves or process.ended_at is None else process.ended_at
                since = math.inf if process.held_since is None else process.held_since
                seconds = max(0.0, min(ended, START + now) - since) * (process.gpus or process.cpus)
                place = (number, process.index, second)
                held[place] = max(held.get(place, 0.0), seconds)
        before = [*books.gpu.items()], [*books.cpu.items()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accounting, "MAX_ACCOUNTS", most)
            books.look(found, now, [f"c{number}" for number in sight.stops])
        for earlier, later in zip(before, (books.gpu, books.cpu), strict=True):
            assert all(later[spending] >= number for spending, number in earlier)
        assert sum(books.gpu.values()) + sum(books.cpu.values()) <= sum(held.values()) + 0.001


@settings(max_examples=200, deadline=None)
@given(
    lives=EQUALS.filter(lambda lives: all(life.ended is not None for life in lives)),
    sights=st.lists(SIGHTS, max_size=20),
)
def test_an_attempt_that_ended_is_counted_to_the_second(lives: list[Life], sights: list[Sight]) -> None:
    """However often and late it was looked at, whole or not at all, and once more after its end."""
    books, now = Books(), 0.0
    for sight in sights:
        now += sight.after
        books.look([] if 0 in sight.hidden else [at("train", now, *lives)], now)
    now = max(now, 1000.0)
    books.look([at("train", now, *lives)], now)
    whole = sum(((life.ended or 0) - life.held) * (life.gpus or life.cpus) for life in lives)
    counted = books.gpu if lives[0].gpus else books.cpu
    assert abs(sum(counted.values()) - whole) <= len(Spending)
    told = dict(counted)
    books.look([], now + 100)
    assert (books.gpu if lives[0].gpus else books.cpu) == told


def _shifted(life: Life, by: float) -> Life:
    up = None if life.up is None else life.up + by
    ended = None if life.ended is None else life.ended + by
    return dataclasses.replace(life, held=life.held + by, up=up, ended=ended)
