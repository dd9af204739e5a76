"""A process that has lost its Lease stops all that it does, and competes for it anew."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from ixt_operator.adapters.kubernetes.lease import LostLease, Times
from ixt_operator.controller import app


class Elector:
    """Has the Lease until it is told that it is lost."""

    def __init__(self) -> None:
        self.leading, self.released = False, False
        self.lost = asyncio.Event()

    async def acquire(self) -> None:
        self.leading = True

    async def keep(self) -> None:
        await self.lost.wait()
        self.fence()

    def fence(self) -> None:
        if self.lost.is_set():
            self.leading = False
            raise LostLease("another leads")

    async def release(self) -> None:
        self.released = self.leading


class Operator:
    """Works as it is told."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self.work = work


def term(elector: Elector, work: Callable[[], Awaitable[None]]) -> app.Leading:
    return app.Leading(elector, Operator(work))  # type: ignore[arg-type]


@pytest.mark.parametrize("told_by", ["the renewal", "a write"])
async def test_what_was_under_way_is_stopped_and_the_process_goes_on(
    told_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    elector, written, stopped = Elector(), list[int](), asyncio.Event()

    async def work() -> None:
        try:
            for number in range(3):
                elector.fence()
                written.append(number)
                if number == 1:
                    elector.lost.set()
                if told_by == "the renewal":
                    await asyncio.Event().wait() if number == 1 else await asyncio.sleep(0)
        finally:
            stopped.set()

    assert await app._serve_term(term(elector, work), asyncio.Event()) is False
    assert stopped.is_set()
    assert written == [0, 1]
    assert not elector.released
    assert "another leads: it competes for it anew" in caplog.text


async def test_who_is_told_to_stop_gives_the_lease_back() -> None:
    elector, stop = Elector(), asyncio.Event()

    async def work() -> None:
        stop.set()
        await asyncio.Event().wait()

    assert await app._serve_term(term(elector, work), stop) is True
    assert elector.released


STUBBORN = """
import asyncio
from controller_test import Elector, term
from ixt_operator.controller import app

async def main():
    elector = Elector()

    async def stubborn():
        elector.lost.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

    app.CANCEL_SECONDS = 0.01
    await app._serve_term(term(elector, stubborn), asyncio.Event())

asyncio.run(main())
"""


def test_what_cannot_be_stopped_ends_with_the_process_which_has_not_failed() -> None:
    program = STUBBORN.replace("controller_test", "test_lost_lease")
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {__file__.rpartition('/')[0]!r})\n{program}"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("times", "sound"),
    [
        (Times(), True),
        (Times(60, 40, 10), True),
        (Times(10, 10, 2), False),
        (Times(15, 10, 6), False),
        (Times(15, 10, 0), False),
    ],
)
def test_a_holder_stops_before_another_starts(times: Times, sound: bool) -> None:
    assert times.sound is sound
