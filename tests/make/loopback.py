"""Servers on loopback, and parts of it for tests that run side by side and bind ports that are fixed."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web


@contextmanager
def part() -> Iterator[int]:
    """A number N that nothing else has that asks here: 127.N.0.0/16 is free to use, and so are the ports that
    `port` tells."""
    for number in range(1, 255):
        with socket.socket() as taken:
            try:
                taken.bind((f"127.{number}.255.254", 1024))
            except OSError:
                continue
            yield number
            return
    raise OSError("every part of loopback is taken")


def port(part: int, number: int = 0) -> int:
    """A port of a part; outgoing connections get none of these."""
    return 20_000 + 16 * part + number


@asynccontextmanager
async def serving(app: web.Application, host: str = "127.0.0.1", number: int = 0) -> AsyncIterator[int]:
    """Serve an app at a port (0 for any) and tell it; at the end cut every connection, as a killed process
    does."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    with socket.create_server((host, number)) as listening:
        await web.SockSite(runner, listening).start()
        try:
            yield listening.getsockname()[1]
        finally:
            # Until 3.12 asyncio loses a connection whose server is closed a moment after it was accepted
            # (Server._attach): none is accepted any more, and those that were become known to the runner.
            asyncio.get_running_loop().remove_reader(listening)
            for _ in range(3):
                await asyncio.sleep(0)
            await runner.cleanup()
