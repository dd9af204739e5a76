import json
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixt_workloads.store import Claim, Store, StoreError, open_store
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


@pytest.mark.parametrize("written", [b"{}", b"[" * 4000, b"\xff", b" " * 5000, b'{"run": 1, "attempt": -1}'])
def test_a_claim_that_nobody_can_read_holds_nobody_up(store: Store, clock: Clock, written: bytes) -> None:
    store.put("claims/k/00000000.json", written)
    first = claim(store, clock, "first")
    assert first.acquire() is None
    assert first.heartbeat()
    assert [info.path for info in store.list("claims")] == ["claims/k/00000001.json"]


@pytest.mark.parametrize(
    "name", ["latest.json", "99.json", "000000000.json", "-0000001.json", "x/00000007.json"]
)
def test_foreign_names_are_no_claims(store: Store, clock: Clock, name: str) -> None:
    store.put(f"claims/k/{name}", b"{}")
    first = claim(store, clock, "first")
    assert first.acquire() is None
    assert first.heartbeat()


@pytest.mark.parametrize("years", [-100, 100, 7000])
def test_a_heartbeat_of_another_time_is_no_life(store: Store, clock: Clock, years: int) -> None:
    """A clock that is wrong, or somebody who means to hold a key for ever."""
    clock.time += timedelta(days=365 * years)
    assert claim(store, clock, "foreign").acquire() is None
    clock.time -= timedelta(days=365 * years)
    assert claim(store, clock, "first").acquire() is None


def test_the_last_number_is_named(store: Store, clock: Clock) -> None:
    store.put("claims/k/99999999.json", b"{}")
    with pytest.raises(StoreError, match="has had all of its numbers; delete claims/k/"):
        claim(store, clock, "first").acquire()


def test_what_a_holder_is_called_is_clean(store: Store, clock: Clock) -> None:
    assert claim(store, clock, "\x1b[2Jevil").acquire() is None
    holder = claim(store, clock, "second").acquire()
    assert holder is not None
    assert holder.run == "evil"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["run", "runUid", "attempt", "host", "heartbeat", "released"])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(fields, json_values | st.datetimes().map(str), max_size=6))
def test_whatever_a_claim_says_it_is_held_or_taken(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"file://{folder}")
        store.put("claims/k/00000000.json", json.dumps(value).encode())
        claim(store, Clock(), "first").acquire()


def test_keys_are_one_segment(store: Store) -> None:
    with pytest.raises(InvalidPath):
        Claim(store, "a/b", run="r", run_uid="u", attempt=0)
