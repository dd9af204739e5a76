"""What live processes of this machine answer over HTTP."""

import aiohttp

from ixt_workloads.contract.results import Progress
from ixt_workloads.contract.versions import read_known

ASK_SECONDS = 0.5
"""A process that does not answer this fast is asked again at the next look."""


def session() -> aiohttp.ClientSession:
    """A client for `ready` and `progress`."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS))


async def ready(http: aiohttp.ClientSession, port: int, path: str) -> bool:
    """Whether a server answers 200."""
    try:
        async with http.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def progress(http: aiohttp.ClientSession, port: int) -> Progress | None:
    """Progress of a step's process; None while it does not say."""
    try:
        async with http.get(f"http://127.0.0.1:{port}/progress") as answer:
            return read_known(Progress, await answer.read())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
