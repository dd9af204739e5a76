"""Progress of running steps, pulled from their pods: a workload never waits for the operator."""

import asyncio
import logging
from collections.abc import Callable, Iterable

import aiohttp

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import PODS, Object
from ixt_operator.adapters.kubernetes.pod import INDEX
from ixt_operator.planner.building import PROGRESS_PORT
from ixt_operator.render.names import OF_NODE
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import Progress
from ixt_workloads.contract.versions import read_known

log = logging.getLogger("ixt.poll")

PERIOD_SECONDS = 15.0
ASK_SECONDS = 3.0
MAX_BYTES = 16 * 1024
AT_ONCE = 64


class Progresses(dict[str, Progress]):
    """The last answer of each running pod, by its uid."""

    async def keep(self, cache: Cache, changed: Callable[[Object], None]) -> None:
        """Ask all pods for ever; `changed` is called with each pod whose answer differs."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:
            while True:
                await self.ask(cache, http, changed)
                await asyncio.sleep(PERIOD_SECONDS)

    async def ask(self, cache: Cache, http: aiohttp.ClientSession, changed: Callable[[Object], None]) -> None:
        """Ask every pod once, and forget those that are gone."""
        pods = {pod["metadata"]["uid"]: pod for pod in _asked(cache.all(PODS))}
        for uid in self.keys() - pods.keys():
            del self[uid]
        turn = asyncio.Semaphore(AT_ONCE)
        answers = await asyncio.gather(*(_ask(http, pod["status"]["podIP"], turn) for pod in pods.values()))
        for (uid, pod), answer in zip(pods.items(), answers, strict=True):
            if answer is not None and answer != self.get(uid):
                self[uid] = answer
                changed(pod)


def _asked(pods: Iterable[Object]) -> Iterable[Object]:
    """Running pods of steps. Where pods share the documents each tells its part, else index 0 speaks."""
    for pod in pods:
        labels, status = pod["metadata"].get("labels", {}), pod.get("status", {})
        index = labels.get(INDEX)
        if index is None or status.get("phase") != "Running" or not status.get("podIP"):
            continue
        kind = KINDS.get(labels.get(OF_NODE["kind"], ""))
        if index == "0" or (kind and kind.shares_work):
            yield pod


async def _ask(http: aiohttp.ClientSession, address: str, turn: asyncio.Semaphore) -> Progress | None:
    host = f"[{address}]" if ":" in address else address
    try:
        async with (
            turn,
            asyncio.timeout(ASK_SECONDS),
            # A pod answers for itself: the operator follows it to no other place.
            http.get(f"http://{host}:{PROGRESS_PORT}/progress", allow_redirects=False) as answer,
        ):
            return read_known(Progress, await answer.content.read(MAX_BYTES))
    except (aiohttp.ClientError, OSError, ValueError):
        return None
