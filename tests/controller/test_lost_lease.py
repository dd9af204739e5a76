"""A process that has lost its Lease ends at once, whatever goes on in it."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, logging
from ixt_operator.adapters.kubernetes.lease import LostLease
from ixt_operator.controller import app

class Elector:
    def fence(self):
        raise LostLease("another leads")
    async def keep(self):
        await asyncio.sleep(0)
        self.fence()

async def stubborn():
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.Event().wait()

async def write():
    await asyncio.sleep(0)
    app._fence(Elector())

logging.basicConfig(format="%(message)s")
asyncio.run(app.first_of(stubborn(), WORK))
"""


@pytest.mark.parametrize("work", ["app._keep(Elector())", "write()"])
def test_it_waits_for_nothing(work: str) -> None:
    program = PROGRAM.replace("WORK", work)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, "another leads\n")
