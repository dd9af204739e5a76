"""Claims: who is making an artifact, so that two runs do not pay for it twice.

A claim is the folder claims/<key>/ with one file a generation, created if absent; the highest generation
holds. Taking over is creating the next one, which one process alone can do on every kind of store, so no
compare-and-swap is needed. Releasing marks the file and leaves it: a deleted one would let its number be
created twice. A claim saves cost and is no lock: what makes two writers safe is create-if-absent.
"""

import logging
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, Field

from ixt_workloads.contract.base import Lenient
from ixt_workloads.contract.foreign import Text, json_of
from ixt_workloads.store.artifact import folder_of
from ixt_workloads.store.base import Store
from ixt_workloads.store.errors import FileTooLarge, NotFound, StoreError, StoreUnavailable

TTL = timedelta(minutes=5)
"""A claim whose heartbeat is older is dead, and so is one whose heartbeat is further in the future: it says
nothing about now. Clocks of machines must agree to well under that."""
MAX_BYTES = 4096

_TRIES = 10

log = logging.getLogger("ixt.store")


def _utc() -> datetime:
    return datetime.now(UTC)


class Holder(Lenient):
    """Who holds a claim."""

    run: Annotated[Text, Field(max_length=253)]
    """Name of the run."""
    run_uid: Annotated[str, Field(max_length=253)]
    attempt: Annotated[int, Field(ge=0)]
    host: Annotated[Text, Field(max_length=253)]
    heartbeat: AwareDatetime
    released: bool = False


_NOBODY = Holder(
    run="", run_uid="", attempt=0, host="", heartbeat=datetime(1970, 1, 1, tzinfo=UTC), released=True
)
_NAME = re.compile(r"claims/(?P<key>[^/]+)/(?P<number>[0-9]{8})\.json")
_LAST = 10**8 - 1


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
                if top.number == _LAST:
                    raise StoreError(
                        f"claim on {self._key} in {self._store.uri} has had all of its numbers",
                        f"delete claims/{self._key}/",
                    )
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
        return holder.released or earlier or abs(self._now() - holder.heartbeat) > TTL

    def _create(self, number: int) -> None:
        """Try to become the holder; whether it worked shows in the next `_top`."""
        if self._store.put_new(self._path(number), self._content(released=False)):
            for older in self._numbers():
                if older < number:
                    self._store.delete(self._path(older))

    def _write(self, number: int, *, released: bool) -> None:
        self._store.put(self._path(number), self._content(released=released))

    def _content(self, *, released: bool) -> bytes:
        holder = self._me.model_copy(update={"heartbeat": self._now(), "released": released})
        return holder.model_dump_json().encode()

    def _top(self) -> _Generation | None:
        for _ in range(_TRIES):
            numbers = self._numbers()
            if not numbers:
                return None
            path = self._path(max(numbers))
            try:
                told = json_of(self._store.get(path, MAX_BYTES), MAX_BYTES)
                return _Generation(max(numbers), Holder.model_validate(told))
            except NotFound:
                # A successor deleted it between listing and reading.
                continue
            except (ValueError, FileTooLarge):
                log.warning("claim %s/%s cannot be read: it is taken over", self._store.uri, path)
                return _Generation(max(numbers), _NOBODY)
        return None

    def _numbers(self) -> list[int]:
        """Generations that there are; files of other names are nobody's claim."""
        found = (_NAME.fullmatch(info.path) for info in self._store.list(f"claims/{self._key}"))
        return [int(match["number"]) for match in found if match and match["key"] == self._key]

    def _path(self, number: int) -> str:
        return f"claims/{self._key}/{number:08d}.json"
