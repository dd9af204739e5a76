"""Why Jobs and pods make no progress, as the events about them tell it.

Events are listed in the background, a namespace at a time, however many pods wait in it and whatever the
store of events does: looks at runs read what is known, and never wait for it.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import EVENTS, RUNS, ApiError, Client, Object
from ixt_operator.adapters.kubernetes.translate import newest_of, warning

log = logging.getLogger("ixt.explaining")

PAUSE_SECONDS = 1.0
"""Between two lists, of whatever namespaces."""
FIRST_SECONDS = 5.0
"""Between the first two lists of a namespace; then longer each time, since such reasons seldom change."""
LONGEST_SECONDS = 120.0


class Explainer:
    """What is known of objects that make no progress, for all runs."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        changed: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`changed` is told the namespace and name of a run whose objects have another explanation by now."""
        self._client = client
        self._cache = cache
        self._changed = changed
        self._clock = clock
        self._asked: dict[tuple[str, str], frozenset[str]] = {}
        """Uids of what is asked about, by the namespace and name of its run."""
        self._new: set[str] = set()
        """Namespaces of which something is asked that was not when they were listed."""
        self._listed: dict[str, tuple[float, float]] = {}
        """When a namespace was listed, and after how many seconds it is listed again."""
        self._said: dict[str, str] = {}
        """Warnings, by the uid of what they are about."""

    def said(self, namespace: str, run: str, uids: Collection[str]) -> dict[str, str]:
        """Warnings about objects of a run, by their uids, as far as any are known. These objects are asked
        about from now on, and no others of the run."""
        asked, before = frozenset(uids), self._asked.pop((namespace, run), frozenset())
        if asked:
            self._asked[namespace, run] = asked
        if asked - before:
            self._new.add(namespace)
        return {uid: self._said[uid] for uid in asked if uid in self._said}

    async def keep(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask()
            await asyncio.sleep(PAUSE_SECONDS)

    async def ask(self) -> None:
        """List the events of the namespace whose turn it is, if there is one."""
        self._forget()
        space = min((space for space, _ in self._asked), key=self._due, default=None)
        if space is None or self._due(space) > self._clock():
            return
        _, last = self._listed.get(space, (0.0, FIRST_SECONDS))
        interval = FIRST_SECONDS if space in self._new else min(2 * last, LONGEST_SECONDS)
        self._new.discard(space)
        runs = {run: uids for run, uids in self._asked.items() if run[0] == space}
        try:
            found = await self._warnings(space, frozenset[str]().union(*runs.values()))
        except ApiError as error:
            log.warning("namespace %s: why pods wait cannot be asked: %s", space, error)
        else:
            changed = [run for run, uids in runs.items() if any(self._differs(uid, found) for uid in uids)]
            self._said |= found
            for run in changed:
                self._changed(*run)
        self._listed[space] = self._clock(), interval

    def _due(self, space: str) -> float:
        at, interval = self._listed.get(space, (-math.inf, 0.0))
        return at + (FIRST_SECONDS if space in self._new else interval)

    def _differs(self, uid: str, found: Mapping[str, str]) -> bool:
        return found[uid] != self._said.get(uid, "")

    def _forget(self) -> None:
        """Forget runs that are gone, and what nobody asks about any more."""
        for run in [run for run in self._asked if self._cache.get(RUNS, *run) is None]:
            del self._asked[run]
        asked = frozenset[str]().union(*self._asked.values())
        self._said = {uid: said for uid, said in self._said.items() if uid in asked}
        spaces = {space for space, _ in self._asked}
        self._new &= spaces
        self._listed = {space: turn for space, turn in self._listed.items() if space in spaces}

    async def _warnings(self, space: str, uids: Collection[str]) -> dict[str, str]:
        """The newest warning about each of these objects of a namespace; empty where there is none."""
        newest: dict[str, Object] = {}
        async for page in self._client.pages(EVENTS, space, take=_read):
            for event in page:
                if (uid := event.get("involvedObject", {}).get("uid", "")) in uids:
                    # Whoever may write events may write a thousand of a megabyte.
                    newest[uid] = newest_of(newest.get(uid, event), event)
        return {uid: warning(newest.get(uid, {})) for uid in uids}


def _read(event: Object) -> Object:
    """What is read of an event."""
    metadata = event["metadata"]
    times = [{"time": each.get("time")} for each in metadata.get("managedFields", ())]
    return {
        **{name: event[name] for name in ("type", "reason", "message") if name in event},
        "involvedObject": {"uid": event.get("involvedObject", {}).get("uid", "")},
        "metadata": {"creationTimestamp": metadata["creationTimestamp"], "managedFields": times},
    }
