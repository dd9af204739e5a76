"""Where Jobs stand in their queues, as Kueue tells where its visibility API is served."""

import asyncio
import logging
from collections.abc import Iterable

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import JOBS, ApiError, Client, Object, Resource
from ixt_operator.adapters.kubernetes.pod import label_of
from ixt_operator.render.names import QUEUE

log = logging.getLogger("ixt.queues")

PERIOD_SECONDS = 60.0
VERSIONS = ("v1beta2", "v1beta1")
"""Of Kueue's API, the newest first."""


class Positions(dict[str, int]):
    """How many Jobs are before each that waits for its queue, by the Job's uid."""

    async def keep(self, client: Client, cache: Cache) -> None:
        """Ask for ever."""
        while True:
            await self.ask(client, cache)
            await asyncio.sleep(PERIOD_SECONDS)

    async def ask(self, client: Client, cache: Cache) -> None:
        """Ask once about each queue in which Jobs wait."""
        waiting = [job for job in cache.all(JOBS) if job["spec"].get("suspend") and label_of(job, QUEUE)]
        queues = sorted({(job["metadata"]["namespace"], label_of(job, QUEUE)) for job in waiting})
        found: dict[str, int] = {}
        for namespace, queue in queues:
            for workload in await _pending(client, namespace, queue):
                for owner in workload.get("metadata", {}).get("ownerReferences", ()):
                    found[owner.get("uid", "")] = int(workload.get("positionInLocalQueue") or 0)
        self.clear()
        uids = {job["metadata"]["uid"] for job in waiting}
        self.update({uid: position for uid, position in found.items() if uid in uids})


async def _pending(client: Client, namespace: str, queue: str) -> Iterable[Object]:
    """What waits in a queue; nothing where Kueue does not tell."""
    for version in VERSIONS:
        queues = Resource(f"visibility.kueue.x-k8s.io/{version}", "localqueues")
        try:
            answer = await client.request("GET", queues.path(namespace, queue, "pendingworkloads"))
        except ApiError as error:
            log.debug("queue %s/%s does not tell who waits in it: %s", namespace, queue, error)
            if error.status != 404:
                return ()
        else:
            items: list[Object] = answer.get("items") or []
            return items
    return ()
