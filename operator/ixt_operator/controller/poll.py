"""Progress of running steps, pulled from their pods: a workload never waits for the operator."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import PODS, Object
from ixt_operator.adapters.kubernetes.pod import INDEX, phase_of_main, port_of
from ixt_operator.planner.building import PROGRESS_PORT
from ixt_operator.render.names import OF_NODE
from ixt_workloads.contract.figures import MAX_SERIES, sound
from ixt_workloads.contract.foreign import json_of
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.metrics import STEP_METRICS, Refusal, Type
from ixt_workloads.contract.results import Figures, Progress
from ixt_workloads.contract.versions import read_known

log = logging.getLogger("ixt.progress")

PERIOD_SECONDS = 15.0
ASK_SECONDS = 3.0
MAX_BYTES = 16 * 1024
AT_ONCE = 64
SILENT_AFTER = 4
"""Times in a row that a pod must fail to answer to be called silent: one that starts does not listen yet."""
CLOCKS_DIFFER_SECONDS = 300.0
"""A time further in the future than this is none."""


class Progresses(dict[str, Progress]):
    """The last answer of each pod of a step, by its uid; those of pods that ended stay while the pods do.

    `refused` is told how many figures were left out, by why; `clock` answers Unix seconds.
    """

    def __init__(
        self,
        refused: Callable[[Counter[str]], None] = lambda why: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.told_at: dict[str, float] = {}
        """When each pod answered last, in Unix seconds by `clock`."""
        self._clock = clock
        self._missed: dict[str, int] = {}
        """How often in a row each running pod did not answer, of those that did not last time."""
        self._refused = refused
        self._early: set[str] | None = None
        """Pods that ran before the first of them was asked."""

    def unheard(self, uid: str) -> bool:
        """Whether a running pod may have told another operator something, and has told this one nothing."""
        return uid not in self and self.early(uid)

    def early(self, uid: str) -> bool:
        """Whether a running pod ran before the first of all was asked."""
        return self._early is None or uid in self._early

    @property
    def silent(self) -> set[str]:
        """Running pods that did not answer the last times that they were asked."""
        return {uid for uid, times in self._missed.items() if times >= SILENT_AFTER}

    async def keep(self, cache: Cache, changed: Callable[[Object], None]) -> None:
        """Ask all pods for ever; `changed` is called with each pod whose answer differs."""

        async def again_and_again(pods: Callable[[Cache], Mapping[str, Object]]) -> None:
            while True:
                await self._ask(pods(cache), http, changed)
                await asyncio.sleep(PERIOD_SECONDS)

        # Those that answer do not wait for those that may not.
        async with session() as http, asyncio.TaskGroup() as both:
            both.create_task(again_and_again(self._proven))
            both.create_task(again_and_again(self._others))

    async def ask(self, cache: Cache, http: aiohttp.ClientSession, changed: Callable[[Object], None]) -> None:
        """Ask the running pods once."""
        await asyncio.gather(
            self._ask(self._proven(cache), http, changed), self._ask(self._others(cache), http, changed)
        )

    def _proven(self, cache: Cache) -> Mapping[str, Object]:
        """Running pods that answered when last asked, by their uid."""
        pods = self._running(cache)
        return {uid: pod for uid, pod in pods.items() if uid in self.told_at and uid not in self._missed}

    def _others(self, cache: Cache) -> Mapping[str, Object]:
        """Running pods that were never asked, and behind them as many as there is time for of those that did
        not answer when last asked: those first that were asked less often since."""
        pods = self._running(cache)
        new = [uid for uid in pods if uid not in self.told_at and uid not in self._missed]
        missed = sorted(self._missed, key=self._missed.__getitem__)
        return {uid: pods[uid] for uid in new + missed[: AT_ONCE * int(PERIOD_SECONDS / ASK_SECONDS)]}

    def _running(self, cache: Cache) -> Mapping[str, Object]:
        """All pods to ask, by their uid; those that are gone are forgotten."""
        there = {pod["metadata"]["uid"] for pod in cache.all(PODS)}
        for uid in self.keys() - there:
            del self[uid], self.told_at[uid]
        pods = {pod["metadata"]["uid"]: pod for pod in _asked(cache.all(PODS))}
        for uid in self._missed.keys() - pods:
            del self._missed[uid]
        if self._early is None:
            self._early = set(pods)
        self._early &= there
        return pods

    async def _ask(
        self, pods: Mapping[str, Object], http: aiohttp.ClientSession, changed: Callable[[Object], None]
    ) -> None:
        """Ask these pods once, and take each answer as it comes."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def ask(uid: str, pod: Object) -> None:
            port = port_of(pod, "progress", PROGRESS_PORT)
            answer = await _ask(http, pod["status"]["podIP"], port, turn)
            if answer is None:
                self._missed[uid] = self._missed.get(uid, 0) + 1
                return
            self._missed.pop(uid, None)
            self.told_at[uid] = self._clock()
            taken = self._taken(self.get(uid), *answer)
            if taken != self.get(uid):
                self[uid] = taken
                changed(pod)

        await asyncio.gather(*(ask(*each) for each in pods.items()))

    def _taken(self, before: Progress | None, answer: Progress, unread: int) -> Progress:
        """An answer with those of its figures that can be true. So many others were `unread`."""
        figures, why = sound(answer.figures)
        why += Counter({str(Refusal.NO_NUMBER): unread})
        why += _keep_forward(before.figures if before else {}, figures)
        why += _drop_future(figures, self._clock() + CLOCKS_DIFFER_SECONDS)
        if why:
            self._refused(why)
        return answer.model_copy(update={"figures": figures})


def session() -> aiohttp.ClientSession:
    """What pods are asked with."""
    # Each is asked too seldom to keep a connection. What is compressed might be endless.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    headers = {"Accept-Encoding": "identity"}
    return aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=False)


def _asked(pods: Iterable[Object]) -> Iterable[Object]:
    """Pods of steps whose main container runs. Where pods share the documents each tells its part, else index
    0 speaks."""
    for pod in pods:
        if speaks(pod) and phase_of_main(pod) == "Running" and pod["status"].get("podIP"):
            yield pod


def speaks(pod: Mapping[str, Any]) -> bool:
    """Whether a pod tells of its step."""
    labels = pod["metadata"].get("labels", {})
    index, kind = labels.get(INDEX), KINDS.get(labels.get(OF_NODE["kind"], ""))
    return index == "0" or (index is not None and kind is not None and kind.shares_work)


def _keep_forward(before: Figures, figures: Figures) -> Counter[str]:
    """Put back what was counted before where a process tells less now; how often."""
    why: Counter[str] = Counter()
    room = MAX_SERIES - sum(map(len, figures.values()))
    for name, values in before.items():
        if STEP_METRICS[name].type is Type.GAUGE:
            continue
        for labels, value in values.items():
            there = labels in figures.get(name, {})
            if there and figures[name][labels] >= value:
                continue
            if not there and room <= 0:
                why[Refusal.TOO_MANY] += 1
                continue
            room -= not there
            figures.setdefault(name, {})[labels] = value
            why[Refusal.BACKWARDS] += 1
    return why


def _drop_future(figures: Figures, latest: float) -> Counter[str]:
    """Take out times that are to come; how many."""
    why: Counter[str] = Counter()
    for name, values in figures.items():
        if name.endswith("_timestamp_seconds"):
            for labels in [labels for labels, value in values.items() if value > latest]:
                del values[labels]
                why[Refusal.FUTURE] += 1
    return why


async def _ask(
    http: aiohttp.ClientSession, address: str, port: int, turn: asyncio.Semaphore
) -> tuple[Progress, int] | None:
    """What a pod answers, and how many of its figures are no numbers; None if it does not answer."""
    host = f"[{address}]" if ":" in address else address
    try:
        async with (
            turn,
            asyncio.timeout(ASK_SECONDS),
            # A pod answers for itself: the operator follows it to no other place.
            http.get(f"http://{host}:{port}/progress", allow_redirects=False) as answer,
        ):
            document = json_of(await _whole(answer.content))
            progress = read_known(Progress, document)
            return progress, _told(document.get("figures")) - _told(progress.figures)
    except (aiohttp.ClientError, OSError, ValueError):
        return None
    except Exception:
        # Whatever a pod says, the others are heard.
        log.exception("the progress of %s cannot be read", address)
        return None


def _told(figures: Any) -> int:
    """How many figures these are, of whatever shape."""
    if not isinstance(figures, dict):
        return int(figures is not None)
    return sum(len(values) if isinstance(values, dict) else 1 for values in figures.values())


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """All of an answer. Raises ValueError for one that is too long."""
    found = b""
    while part := await content.read(MAX_BYTES):
        found += part
        if len(found) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
    return found
