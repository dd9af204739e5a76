"""A model's servers as their clients see them: replicas or an endpoint that speak OpenAI's API."""

import asyncio
import itertools
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self, TypeVar

import aiohttp

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.metrics import Retry
from ixt_workloads.steps.annotate.pace import Pace
from ixt_workloads.steps.annotate.wire import (
    LONGEST_PAUSE,
    MAX_BODY_BYTES,
    MAX_REPLY_BYTES,
    Completions,
    Reply,
    ServedModel,
    addresses,
    api,
    completions_of,
    displayed,
    gauges_of,
    message_of,
    models_of,
    pause_of,
    reply_of,
)

log = logging.getLogger("ixt.judge")

T = TypeVar("T")

POLL_SECONDS = 1.0
RESOLVE_EVERY = 10
"""Polls after which names are resolved again."""

POLL_TIMEOUT = aiohttp.ClientTimeout(total=10)
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=3600, sock_connect=10)
MOST_NAMES = 8
TRIES = 6
"""Server errors after which a document is given up while the judge answers others."""

_TOO_LONG = re.compile(
    r"context (length|window)|too long|max_model_len|max_(completion_)?tokens|input_tokens"
)
_FILTERED = re.compile(r"content.?(filter|polic)|moderation|flagged|safety", re.IGNORECASE)


class TooLong(Exception):  # noqa: N818 - no error: the document is cut
    """Prompt and answer do not fit the judge's context."""


class Declined(Exception):  # noqa: N818
    """The server refuses this request, and would again: a filter of contents, say, or a request that it does
    not know at all."""


class GivenUp(Exception):  # noqa: N818
    """The server failed on this document again and again while it answered others."""


class Oversized(Exception):  # noqa: N818
    """An answer that is longer than any that a judge has reason to give."""


class Replica:
    """One server, with connections of its own: closing them ends every request that waits on it."""

    def __init__(self, url: str, headers: dict[str, str], *, proxy: bool) -> None:
        self.url = url
        self.in_flight = 0
        self.up = False
        self.trouble = "not asked yet"
        self.stuck_since: float | None = None
        self.tokens = -1.0
        self._headers = headers
        self._proxy = proxy
        self.session = self._connect()

    async def lose(self, trouble: str) -> None:
        """Take it out of service and let the requests that wait on it be asked elsewhere."""
        self.trouble = trouble
        if self.up:
            log.warning("server %s is lost: %s", displayed(self.url), trouble)
            self.up = False
            old, self.session = self.session, self._connect()
            await old.close()

    def _connect(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=75)
        # What is compressed might be endless.
        return aiohttp.ClientSession(
            headers={**self._headers, "Accept-Encoding": "identity"},
            timeout=REQUEST_TIMEOUT,
            connector=connector,
            trust_env=self._proxy,
            auto_decompress=False,
        )


class Judges:
    """Asks the least loaded replica, again elsewhere when one is lost, and follows the engine's queue.

    `urls` are base URLs; a name that stands for several addresses is several replicas. With `endpoint`,
    the one URL is somebody else's: no health check, no gauges. `key` goes with every request. `retried` is
    told why a request is sent again. Raises StepError(UNAVAILABLE) when no replica answered for `patience`
    seconds. `who` is what messages call the model.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        model: str | None = None,
        endpoint: bool = False,
        key: str = "",
        retried: Callable[[Retry], None] = lambda why: None,
        patience: float = 300,
        wait: float = 1800,
        who: str = "judge",
    ) -> None:
        self._urls = urls
        self._who = who
        self._wanted = model
        self._endpoint = endpoint
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._retried = retried
        self._patience = patience
        self._wait = wait
        self._replicas: dict[str, Replica] = {}
        self._found: set[str] = set()
        self._change = asyncio.Event()
        self._outage: float | None = None
        self.load: tuple[float, float] | None = None
        """Requests that run and wait at the servers, whoever sent them, where they tell it."""
        self.model = ServedModel(model or "", "", None)
        self.names: set[str] = set()
        """Names that answers gave the model; no more than can be told."""
        self.pace = Pace()

    async def __aenter__(self) -> Self:
        await self._resolve()
        self._poller = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._poller.cancel()
        await asyncio.gather(
            self._poller,
            *(replica.session.close() for replica in self._replicas.values()),
            return_exceptions=True,
        )

    async def ready(self, report: Callable[[str], None]) -> ServedModel:
        """Wait until a replica can be asked, and learn what it serves."""
        start = time.monotonic()
        while not (up := [replica for replica in self._replicas.values() if replica.up]):
            if self._poller.done():
                self._poller.result()
            waited = time.monotonic() - start
            trouble = "; ".join(f"{displayed(each.url)}: {each.trouble}" for each in self._replicas.values())
            trouble = trouble or "its name cannot be resolved"
            if waited > self._wait:
                raise StepError(
                    Exit.UNAVAILABLE,
                    f"no {self._who} became ready in {waited:.0f} s ({self._shown()}): {trouble}",
                    f"look at the {self._who}'s log: does it fit the memory, is the engine's start slow?",
                )
            report(f"waiting for the {self._who} ({waited:.0f} s): {trouble}")
            await self._tick(POLL_SECONDS)
        self.model = await self._describe(up[0])
        return self.model

    async def chat(self, body: dict[str, Any]) -> Reply:
        """Answer to a chat completion. Raises TooLong, Declined, GivenUp or StepError."""
        reply = await self._ask("chat/completions", body, reply_of)
        if reply.model and len(self.names) < MOST_NAMES:
            self.names.add(reply.model)
        return reply

    async def check_same(self, before: Collection[str] = ()) -> None:
        """Raise StepError(CONFIG) when an endpoint has another model behind its name than at first, and than
        all of `before`. One that does not tell cannot be checked."""
        if not self._endpoint or not (first := self.model.root):
            return
        replica = next(iter(self._replicas.values()))
        now = (await self._describe(replica)).root or first
        for known in (*before, first):
            if known != now:
                raise StepError(
                    Exit.CONFIG,
                    f"the {self._who} ({self._shown()}) had {known} behind the name {self.model.name} and "
                    f"now has {now}: what two models say is not mixed",
                    "serve the first one again, or give the new one a name of its own "
                    "(judge.endpoint.model): documents are then read anew",
                )

    async def complete(self, body: dict[str, Any]) -> Completions:
        """Answer to a text completion. Raises as `chat`."""
        return await self._ask("completions", body, completions_of)

    async def _ask(self, path: str, body: dict[str, Any], parse: Callable[[bytes], T | None]) -> T:
        payload = json.dumps({"model": self.model.name, **body}).encode()
        failures = 0
        while True:
            replica = await self._choose()
            session, start = replica.session, time.monotonic()
            replica.in_flight += 1
            try:
                async with session.post(
                    f"{api(replica.url)}/{path}",
                    data=payload,
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as response:
                    status, text = response.status, await read(response, MAX_REPLY_BYTES)
                    pause = pause_of(response.headers.get("Retry-After"))
            except Oversized as error:
                # Not the server's connection: asking again elsewhere may help, and costs what a failure does.
                status, text, pause = 500, str(error).encode(), 0.0
            except (aiohttp.ClientError, OSError) as error:
                # TimeoutError is an OSError.
                trouble = f"{type(error).__name__} {error}".strip()
                # Not if `lose` closed the connections: the replica may be back by now.
                if session is replica.session and not self._endpoint:
                    await replica.lose(trouble)
                self._retried(Retry.CONNECTION)
                await self._failed(trouble, _backoff(TRIES) if self._endpoint else 0)
                continue
            finally:
                replica.in_flight -= 1
            if status == 200 and (reply := parse(text)):
                self._outage = None
                if self._endpoint:
                    self.pace.answered(time.monotonic() - start)
                return reply
            trouble = f"HTTP {status} {message_of(text)}"
            if status == 429:
                pause = pause or _backoff(failures)
                self.pace.throttled(time.monotonic(), pause)
                self._retried(Retry.THROTTLED)
                await self._failed(trouble, pause)
                failures = min(failures + 1, TRIES)
            elif status == 200 or status >= 500 or status == 408:
                failures += 1
                if failures >= TRIES:
                    raise GivenUp(trouble)
                self._retried(Retry.THROTTLED if status == 503 else Retry.SERVER_ERROR)
                await self._failed(trouble, _backoff(failures))
            else:
                raise self._refused(status, message_of(text))

    @property
    def open(self) -> int:
        """Requests of this client that a server has and has not answered."""
        return sum(replica.in_flight for replica in self._replicas.values())

    async def _choose(self) -> Replica:
        while True:
            up = [replica for replica in self._replicas.values() if replica.up]
            # A replica whose address the name no longer has is about to stop.
            staying = [replica for replica in up if replica.url in self._found]
            if up:
                return min(staying or up, key=lambda replica: replica.in_flight)
            self._check_outage("no replica is up")
            await self._tick(POLL_SECONDS)

    async def _failed(self, trouble: str, pause: float) -> None:
        """Wait before the next try; raise StepError when nothing but failures came for too long."""
        self._check_outage(trouble)
        await asyncio.sleep(pause)

    def _check_outage(self, trouble: str) -> None:
        if self._poller.done():
            self._poller.result()
        self._outage = self._outage or time.monotonic()
        lasted = time.monotonic() - self._outage
        if lasted > self._patience:
            troubles = {trouble, *(each.trouble for each in self._replicas.values() if not each.up)}
            raise StepError(
                Exit.UNAVAILABLE,
                f"the {self._who} ({self._shown()}) gave no answer for {lasted:.0f} s: "
                f"{'; '.join(sorted(troubles))}",
                f"shards that are done stay; look at the {self._who}'s log, then run again",
            )

    def _refused(self, status: int, message: str) -> Exception:
        where = f"the {self._who} ({self._shown()}) answered HTTP {status}: {message}"
        if status == 413 or (status in (400, 422) and _TOO_LONG.search(message)):
            return TooLong(message)
        if status == 401 and not self._endpoint:
            # Another attempt may meet servers that were made anew.
            return StepError(
                Exit.UNAVAILABLE,
                where,
                "it was started with another API key than the run's Secret has now: was that deleted? Delete "
                f"the {self._who}'s Deployment, which is then made anew with the present one",
            )
        if status in (401, 403) and not (status == 403 and _FILTERED.search(message)):
            return StepError(
                Exit.NO_PERMISSION,
                where,
                "check judge.endpoint.apiKeySecretRef and the key in its Secret",
            )
        if status in (301, 302, 303, 307, 308, 404, 405):
            return StepError(Exit.CONFIG, where, "check judge.endpoint.url and judge.endpoint.model")
        return Declined(where)

    async def _poll(self) -> None:
        for polls in itertools.count():
            if not self._endpoint:
                if polls and polls % RESOLVE_EVERY == 0:
                    await self._resolve()
                gauges = await asyncio.gather(*map(self._look, self._replicas.values()))
                seen = [gauge for gauge in gauges if gauge is not None]
                self.load = None
                if seen:
                    running, waiting = map(sum, zip(*seen, strict=True))
                    self.load = running, waiting
                    self.pace.observed(running, waiting)
            self._change.set()
            self._change.clear()
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self, replica: Replica) -> tuple[float, float] | None:
        """Health and queue (running, waiting) of a replica."""
        try:
            async with replica.session.get(f"{replica.url}/health", timeout=POLL_TIMEOUT) as response:
                if response.status != 200:
                    await replica.lose(f"health check answers {response.status}")
                    return None
            async with replica.session.get(f"{replica.url}/metrics", timeout=POLL_TIMEOUT) as response:
                text = await read(response, MAX_BODY_BYTES) if response.status == 200 else b""
        except (aiohttp.ClientError, OSError, Oversized) as error:
            await replica.lose(f"{type(error).__name__} {error}".strip()[:200])
            return None
        gauges = gauges_of(text.decode(errors="replace"))
        tokens = gauges.get("prompt_tokens_total", 0) + gauges.get("generation_tokens_total", 0)
        if tokens != replica.tokens or not gauges.get("num_requests_running"):
            replica.tokens, replica.stuck_since = tokens, None
        else:
            replica.stuck_since = replica.stuck_since or time.monotonic()
            if time.monotonic() - replica.stuck_since > self._patience:
                await replica.lose(f"hung: requests run, but no token came for {self._patience:.0f} s")
                return None
        replica.up = True
        if "num_requests_running" not in gauges:
            return None
        return gauges["num_requests_running"], gauges.get("num_requests_waiting", 0.0)

    async def _resolve(self) -> None:
        """Bring the replicas in line with what the names stand for now."""
        if self._endpoint:
            found = set(self._urls)
        else:
            answers = await asyncio.gather(*(addresses(url) for url in self._urls))
            found = {url for urls in answers for url in urls}
        self._found = found
        for url in found - self._replicas.keys():
            self._replicas[url] = Replica(url, self._headers, proxy=self._endpoint)
            self._replicas[url].up = self._endpoint
        for url in self._replicas.keys() - found:
            # One that is up may still answer its requests; if it is gone, its health check fails.
            if not self._replicas[url].up:
                await self._replicas.pop(url).session.close()

    async def _describe(self, replica: Replica) -> ServedModel:
        try:
            async with replica.session.get(f"{api(replica.url)}/models", timeout=POLL_TIMEOUT) as response:
                status, text = response.status, await read(response, MAX_BODY_BYTES)
        except (aiohttp.ClientError, OSError, Oversized) as error:
            if not self._endpoint:
                raise StepError(
                    Exit.UNAVAILABLE, f"the {self._who} ({self._shown()}) was lost: {error}", "run again"
                ) from None
            return self.model
        if status in (401, 403):
            raise self._refused(status, message_of(text))
        models = models_of(text) if status == 200 else {}
        names = list(models)
        name = self._wanted or (names[0] if names else "")
        engine = names[1] if len(names) > 1 and not self._endpoint else ""
        found = models.get(name, ServedModel(name, "", None))
        # What is behind our own is pinned.
        return replace(found, engine=engine, root=found.root if self._endpoint else "")

    async def _tick(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._change.wait(), seconds)

    def _shown(self) -> str:
        return ", ".join(displayed(url) for url in self._urls)


def served(who: str, retried: Callable[[Retry], None]) -> Judges:
    """Clients of the run's own server of this name, which the environment tells of."""
    name = f"IXT_{who.upper()}"
    urls = [part.rstrip("/") for part in os.environ.get(f"{name}_URLS", "").split(",") if part]
    if not urls:
        raise StepError(
            Exit.USAGE, f"{name}_URLS is not set", "steps are started by `ixt run` or the operator"
        )
    return Judges(urls, key=os.environ.get(f"{name}_API_KEY", ""), retried=retried, who=who)


def _backoff(failures: int) -> float:
    return min(LONGEST_PAUSE, 0.25 * 2.0**failures) * random.uniform(0.5, 1.0)


async def read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of an answer. Raises Oversized for more than `most` bytes, of which hardly more is read; it
    comes as it was sent, never unpacked."""
    found = bytearray()
    async for part in response.content.iter_chunked(1 << 16):
        found += part
        if len(found) > most:
            raise Oversized(f"an answer of more than {most:,} bytes")
    return bytes(found)
