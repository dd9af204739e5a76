"""The judge as its clients see it: replicas or an endpoint that speak OpenAI's API, behind one call."""

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

import aiohttp

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.steps.annotate.pace import Pace
from ixt_workloads.steps.annotate.wire import (
    Reply,
    ServedModel,
    addresses,
    api,
    displayed,
    gauges_of,
    message_of,
    reply_of,
)

log = logging.getLogger("ixt.judge")

POLL_SECONDS = 1.0
RESOLVE_EVERY = 10
"""Polls after which names are resolved again."""

POLL_TIMEOUT = aiohttp.ClientTimeout(total=10)
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=3600, sock_connect=10)
TRIES = 6
"""Server errors after which a document is given up while the judge answers others."""

LONGEST_PAUSE = 30.0
_TOO_LONG = re.compile(
    r"context (length|window)|too long|max_model_len|max_(completion_)?tokens|input_tokens"
)


class TooLong(Exception):  # noqa: N818 - no error: the document is cut
    """Prompt and answer do not fit the judge's context."""


class GivenUp(Exception):  # noqa: N818
    """The server failed on this document again and again while it answered others."""


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
            log.warning("judge %s is lost: %s", displayed(self.url), trouble)
            self.up = False
            old, self.session = self.session, self._connect()
            await old.close()

    def _connect(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=75)
        return aiohttp.ClientSession(
            headers=self._headers, timeout=REQUEST_TIMEOUT, connector=connector, trust_env=self._proxy
        )


class Judges:
    """Asks the least loaded replica, again elsewhere when one is lost, and follows the engine's queue.

    `urls` are base URLs; a name that stands for several addresses is several replicas. With `endpoint`,
    the one URL is somebody else's: no health check, no gauges, and `key` goes with every request.
    Raises StepError(UNAVAILABLE) when no replica answered for `patience` seconds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        model: str | None = None,
        endpoint: bool = False,
        key: str = "",
        patience: float = 300,
        wait: float = 1800,
    ) -> None:
        self._urls = urls
        self._wanted = model
        self._endpoint = endpoint
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._patience = patience
        self._wait = wait
        self._replicas: dict[str, Replica] = {}
        self._found: set[str] = set()
        self._change = asyncio.Event()
        self._outage: float | None = None
        self.model = ServedModel(model or "", "", None)
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
                    f"no judge became ready in {waited:.0f} s ({self._shown()}): {trouble}",
                    "look at the judge's log: does the model fit the memory, is the engine's start slow?",
                )
            report(f"waiting for the judge ({waited:.0f} s): {trouble}")
            await self._tick(POLL_SECONDS)
        self.model = await self._describe(up[0])
        return self.model

    async def chat(self, body: dict[str, Any]) -> Reply:
        """Answer of the judge to a chat completion. Raises TooLong, GivenUp or StepError."""
        payload = json.dumps({"model": self.model.name, **body}).encode()
        failures = 0
        while True:
            replica = await self._choose()
            session, start = replica.session, time.monotonic()
            replica.in_flight += 1
            try:
                async with session.post(
                    f"{api(replica.url)}/chat/completions",
                    data=payload,
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as response:
                    status, text = response.status, await response.read()
                    pause = _seconds(response.headers.get("Retry-After"))
            except (aiohttp.ClientError, OSError) as error:
                # TimeoutError is an OSError.
                trouble = f"{type(error).__name__} {error}".strip()
                # Not if `lose` closed the connections: the replica may be back by now.
                if session is replica.session and not self._endpoint:
                    await replica.lose(trouble)
                await self._failed(trouble, _backoff(TRIES) if self._endpoint else 0)
                continue
            finally:
                replica.in_flight -= 1
            if status == 200 and (reply := reply_of(text)):
                self._outage = None
                if self._endpoint:
                    self.pace.answered(time.monotonic() - start)
                return reply
            trouble = f"HTTP {status} {message_of(text)}"
            if status == 429:
                pause = pause or _backoff(failures)
                self.pace.throttled(time.monotonic(), pause)
                await self._failed(trouble, pause)
                failures = min(failures + 1, TRIES)
            elif status == 200 or status >= 500 or status == 408:
                failures += 1
                if failures >= TRIES:
                    raise GivenUp(trouble)
                await self._failed(trouble, _backoff(failures))
            else:
                raise self._refused(status, message_of(text))

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
                f"the judge ({self._shown()}) gave no answer for {lasted:.0f} s: "
                f"{'; '.join(sorted(troubles))}",
                "shards that are done stay; look at the judge's log, then run again",
            )

    def _refused(self, status: int, message: str) -> Exception:
        where = f"the judge ({self._shown()}) answered HTTP {status}: {message}"
        if status == 413 or (status in (400, 422) and _TOO_LONG.search(message)):
            return TooLong(message)
        if status in (401, 403):
            return StepError(
                Exit.NO_PERMISSION,
                where,
                "check judge.endpoint.apiKeySecretRef and the key in its Secret",
            )
        if status in (301, 302, 303, 307, 308, 404, 405):
            return StepError(Exit.CONFIG, where, "check judge.endpoint.url and judge.endpoint.model")
        return StepError(
            Exit.CONFIG,
            where,
            "does it know chat completions, response_format json_schema and the model's template?",
        )

    async def _poll(self) -> None:
        polls = 0
        while True:
            if not self._endpoint:
                if polls % RESOLVE_EVERY == 0 and polls:
                    await self._resolve()
                gauges = await asyncio.gather(*(self._look(each) for each in self._replicas.values()))
                seen = [gauge for gauge in gauges if gauge is not None]
                if seen:
                    self.pace.observed(
                        sum(running for running, _ in seen), sum(waiting for _, waiting in seen)
                    )
            polls += 1
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
                gauges = gauges_of(await response.text()) if response.status == 200 else {}
        except (aiohttp.ClientError, OSError) as error:
            await replica.lose(f"{type(error).__name__} {error}".strip()[:200])
            return None
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
                status, text = response.status, await response.read()
        except (aiohttp.ClientError, OSError) as error:
            if not self._endpoint:
                raise StepError(
                    Exit.UNAVAILABLE, f"the judge ({self._shown()}) was lost: {error}", "run again"
                ) from None
            return self.model
        if status in (401, 403):
            raise self._refused(status, message_of(text))
        try:
            entries = {entry["id"]: entry for entry in json.loads(text)["data"]} if status == 200 else {}
        except (ValueError, KeyError, TypeError):
            entries = {}
        names = list(entries)
        name = self._wanted or (names[0] if names else "")
        context = entries.get(name, {}).get("max_model_len")
        engine = names[1] if len(names) > 1 and not self._endpoint else ""
        return ServedModel(name, engine, context if isinstance(context, int) else None)

    async def _tick(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._change.wait()

    def _shown(self) -> str:
        return ", ".join(displayed(url) for url in self._urls)


def _backoff(failures: int) -> float:
    return min(LONGEST_PAUSE, 0.25 * 2.0**failures) * random.uniform(0.5, 1.0)


def _seconds(retry_after: str | None) -> float:
    try:
        return min(float(retry_after or 0), LONGEST_PAUSE)
    except ValueError:
        return 0.0
