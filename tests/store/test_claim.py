from datetime import UTC, datetime, timedelta

import pytest

from ixt_workloads.store import Claim, Store, StoreError
from ixt_workloads.store.claim import TTL
from ixt_workloads.store.errors import InvalidPath


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def claim(store: Store, clock: Clock, run: str, attempt: int = 0) -> Claim:
    return Claim(store, "k", run=run, run_uid=f"uid-{run}", attempt=attempt, now=clock)


def test_the_second_learns_for_whom_it_waits(store: Store, clock: Clock) -> None:
    assert claim(store, clock, "first", 3).acquire() is None
    holder = claim(store, clock, "second").acquire()
    assert holder is not None
    assert (holder.run, holder.run_uid, holder.attempt, holder.heartbeat) == (
        "first",
        "uid-first",
        3,
        clock.time,
    )
    assert holder.host


def test_all_processes_of_an_attempt_hold_it(store: Store, clock: Clock) -> None:
    assert claim(store, clock, "first").acquire() is None
    assert claim(store, clock, "first").acquire() is None
    assert claim(store, clock, "first").heartbeat()


def test_released_claims_are_free(store: Store, clock: Clock) -> None:
    first, second = claim(store, clock, "first"), claim(store, clock, "second")
    for _ in range(3):
        assert first.acquire() is None
        first.release()
        assert second.acquire() is None
        assert first.acquire() is not None
        second.release()
    assert len(list(store.list("claims"))) == 1


def test_heartbeats_keep_it(store: Store, clock: Clock) -> None:
    first, second = claim(store, clock, "first"), claim(store, clock, "second")
    assert first.acquire() is None
    for _ in range(3):
        clock.time += TTL - timedelta(seconds=1)
        assert first.heartbeat()
    assert second.acquire() is not None


def test_stale_claims_are_taken_over(store: Store, clock: Clock) -> None:
    first, second = claim(store, clock, "first"), claim(store, clock, "second")
    assert first.acquire() is None
    clock.time += TTL + timedelta(seconds=1)
    assert second.acquire() is None
    assert not first.heartbeat()
    first.release()
    assert second.heartbeat()
    holder = first.acquire()
    assert holder is not None
    assert holder.run == "second"


def test_a_runs_next_attempt_need_not_wait(store: Store, clock: Clock) -> None:
    assert claim(store, clock, "first", 0).acquire() is None
    assert claim(store, clock, "first", 1).acquire() is None
    # The attempt before, should it still live, has lost.
    assert not claim(store, clock, "first", 0).heartbeat()
    assert claim(store, clock, "first", 0).acquire() is not None


def test_of_two_that_take_over_one_gets_it(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(store, clock, "dead").acquire()
    clock.time += TTL * 2
    second, third = claim(store, clock, "second"), claim(store, clock, "third")
    create = third._create

    def late(number: int) -> None:
        assert second.acquire() is None
        create(number)

    monkeypatch.setattr(third, "_create", late)
    holder = third.acquire()
    assert holder is not None
    assert holder.run == "second"


def test_a_late_take_over_of_an_old_generation_changes_nothing(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(store, clock, "dead").acquire()
    clock.time += TTL * 2
    second, third, late = (claim(store, clock, run) for run in ("second", "third", "late"))
    create = late._create

    def much_later(number: int) -> None:
        monkeypatch.undo()
        assert second.acquire() is None
        second.release()
        assert third.acquire() is None
        create(number)

    monkeypatch.setattr(late, "_create", much_later)
    holder = late.acquire()
    assert holder is not None
    assert holder.run == "third"
    assert third.heartbeat()


def test_heartbeat_without_a_claim(store: Store, clock: Clock) -> None:
    assert not claim(store, clock, "first").heartbeat()
    claim(store, clock, "first").release()
    assert list(store.list("claims")) == []


def test_an_unreadable_claim_is_named(store: Store, clock: Clock) -> None:
    store.put("claims/k/00000000.json", b"{}")
    with pytest.raises(StoreError, match=r"claim .*/claims/k/00000000.json cannot be read; delete it"):
        claim(store, clock, "first").acquire()


def test_keys_are_one_segment(store: Store) -> None:
    with pytest.raises(InvalidPath):
        Claim(store, "a/b", run="r", run_uid="u", attempt=0)
