"""Claims: who is making an artifact, so that two runs do not pay for it twice.

A claim is the folder claims/<key>/ with one file a generation, created if absent; the highest generation
holds. Taking over is creating the next one, which one process alone can do on every kind of store, so no
compare-and-swap is needed. Releasing marks the file and leaves it: a deleted one would let its number be
created twice. A claim saves cost and is no lock: what makes two writers safe is create-if-absent.
"""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pydantic import AwareDatetime, ValidationError

from ixt_workloads.contract.base import Lenient
from ixt_workloads.store.artifact import folder_of
from ixt_workloads.store.base import Store
from ixt_workloads.store.errors import NotFound, StoreError, StoreUnavailable

TTL = timedelta(minutes=5)
"""A claim whose heartbeat is older is dead. Clocks of machines must agree to well under that."""

_TRIES = 10


def _utc() -> datetime:
    return datetime.now(UTC)


class Holder(Lenient):
    """Who holds a claim."""

    run: str
    """Name of the run."""
    run_uid: str
    attempt: int
    host: str
    heartbeat: AwareDatetime
    released: bool = False


class _Generation(NamedTuple):
    number: int
    holder: Holder


class Claim:
    """One attempt's claim on a key. All processes of an attempt share it."""

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        run: str,
        run_uid: str,
        attempt: int,
        now: Callable[[], datetime] = _utc,
    ) -> None:
        folder_of(key)
        self._store = store
        self._key = key
        self._now = now
        host = socket.gethostname()
        self._me = Holder(run=run, run_uid=run_uid, attempt=attempt, host=host, heartbeat=now())

    def acquire(self) -> Holder | None:
        """Take the claim unless another has it: None when it is this attempt's, else who holds it.

        Taken over: released claims, those without a heartbeat for `TTL`, and those of the run's earlier
        attempts, since a run never has two at work.
        """
        for _ in range(_TRIES):
            top = self._top()
            if top is None:
                self._create(0)
            elif self._is_mine(top.holder):
                self._write(top.number, released=False)
                return None
            elif self._is_free(top.holder):
                self._create(top.number + 1)
            else:
                return top.holder
        raise StoreUnavailable(f"claim on {self._key} in {self._store.uri} keeps changing", "run again")

    def heartbeat(self) -> bool:
        """Say that the attempt lives, several times within `TTL`; False when another took the claim over."""
        top = self._top()
        if top is None or not self._is_mine(top.holder):
            return False
        self._write(top.number, released=False)
        return True

    def release(self) -> None:
        """Let others have the claim, if it is still this attempt's."""
        top = self._top()
        if top is not None and self._is_mine(top.holder):
            self._write(top.number, released=True)

    def _is_mine(self, holder: Holder) -> bool:
        return (holder.run_uid, holder.attempt) == (self._me.run_uid, self._me.attempt)

    def _is_free(self, holder: Holder) -> bool:
        earlier = holder.run_uid == self._me.run_uid and holder.attempt < self._me.attempt
        return holder.released or earlier or self._now() - holder.heartbeat > TTL

    def _create(self, number: int) -> None:
        """Try to become the holder; whether it worked shows in the next `_top`."""
        if self._store.put_new(self._path(number), self._content(released=False)):
            for info in self._store.list(f"claims/{self._key}"):
                if _number(info.path) < number:
                    self._store.delete(info.path)

    def _write(self, number: int, *, released: bool) -> None:
        self._store.put(self._path(number), self._content(released=released))

    def _content(self, *, released: bool) -> bytes:
        holder = self._me.model_copy(update={"heartbeat": self._now(), "released": released})
        return holder.model_dump_json().encode()

    def _top(self) -> _Generation | None:
        for _ in range(_TRIES):
            numbers = [_number(info.path) for info in self._store.list(f"claims/{self._key}")]
            if not numbers:
                return None
            path = self._path(max(numbers))
            try:
                return _Generation(max(numbers), Holder.model_validate_json(self._store.get(path)))
            except NotFound:
                # A successor deleted it between listing and reading.
                continue
            except ValidationError as error:
                raise StoreError(
                    f"claim {self._store.uri}/{path} cannot be read",
                    "delete it if no newer ixt uses this storage",
                ) from error
        return None

    def _path(self, number: int) -> str:
        return f"claims/{self._key}/{number:08d}.json"


def _number(path: str) -> int:
    return int(path.rpartition("/")[2].removesuffix(".json"))
