"""kopf's way to the API server: its own credentials, in a session that counts requests and watches, and in
which no object is nested deeper than kopf's parser takes: one that is would end the operator, and the next
leader."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf

from ixt_operator.adapters.kubernetes.cache import slimmer
from ixt_operator.adapters.kubernetes.client import Object, value_of, verb_of
from ixt_operator.controller import exporter
from ixt_workloads.contract.foreign import answer_of, shallow, values_of


@dataclass(frozen=True, kw_only=True)
class _Session(kopf.AiohttpSession):
    """A session of some credentials. Two are equal when these are: by that kopf knows credentials that the
    API server has refused."""

    aiohttp_session: aiohttp.ClientSession = field(compare=False)
    info: kopf.ConnectionInfo


MOST_VALUES_OF_ONE = 20_000
"""Values of an object that kopf, which keeps many at once, gets as it is; of one with more it gets what is
read."""

_NAMESPACE = re.compile(r"/namespaces/([^/]+)/")


class Answer(aiohttp.ClientResponse):
    """An answer that kopf reads: a list by `json`, a watch line by line from `content`."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Begin to read. What a watch tells is given on line by line."""
        await super().start(connection)
        if "watch" in self.url.query:
            self.content = _Lines(self.content, slimmer(self.url.path))  # type: ignore[assignment]
        return self

    async def json(self, **_: Any) -> Any:
        """The value. kopf's errors are JSON as well."""
        return await value_of(await self.read(), slimmer(self.url.path))


class _Lines:
    """The content of a watch, an object a line."""

    def __init__(self, content: aiohttp.StreamReader, take: Callable[[Object], Object]) -> None:
        self._content = content
        self._take = take

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, as they come."""
        begun: list[bytes] = []
        async for part in self._content.iter_chunked(size):
            *ends, rest = part.split(b"\n")
            for end in ends:
                yield await self._light(b"".join([*begun, end])) + b"\n"
                begun.clear()
            begun.append(rest)
        if last := b"".join(begun):
            yield await self._light(last)

    async def _light(self, line: bytes) -> bytes:
        few = values_of(line) <= MOST_VALUES_OF_ONE
        return shallow(line) if few else await asyncio.to_thread(self._lightened, line)

    def _lightened(self, line: bytes) -> bytes:
        event = answer_of(line)
        return json.dumps({**event, "object": self._take(event["object"])}).encode()


class Login:
    """kopf's handler of logins. `forbidden` is told a namespace of which the API server forbids something."""

    def __init__(self, forbidden: Callable[[str], None] = lambda namespace: None) -> None:
        self._forbidden = forbidden
        self._watched: set[str] = set()
        """Paths that are or were watched."""

    async def __call__(self, **arguments: Any) -> kopf.AiohttpSession | None:
        """A session with the rights of the pod's service account, or else of the kubeconfig."""
        info = kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)
        if info is None:
            return None
        tracing = aiohttp.TraceConfig()
        tracing.on_request_start.append(self._begun)
        tracing.on_request_end.append(self._answered)
        tracing.on_request_exception.append(self._unanswered)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            proxy=info.proxy_url,
            trust_env=info.trust_env,
            trace_configs=[tracing],
            response_class=Answer,
        )
        return _Session(
            server=info.server,
            priority=info.priority,
            expiration=info.expiration,
            default_namespace=info.default_namespace,
            aiohttp_session=session,
            info=info,
        )

    async def _begun(self, _: Any, request: SimpleNamespace, asked: aiohttp.TraceRequestStartParams) -> None:
        request.since = time.monotonic()
        if "watch" not in asked.url.query:
            return
        if asked.url.path in self._watched:
            exporter.watch_restarts.labels(verb_of(asked.method, asked.url.path)[1]).inc()
        self._watched.add(asked.url.path)

    async def _answered(self, _: Any, request: SimpleNamespace, asked: aiohttp.TraceRequestEndParams) -> None:
        _count(asked, asked.response.status, request.since)
        if asked.response.status == 403 and (found := _NAMESPACE.search(asked.url.path)):
            self._forbidden(found[1])

    async def _unanswered(
        self, _: Any, request: SimpleNamespace, asked: aiohttp.TraceRequestExceptionParams
    ) -> None:
        _count(asked, 0, request.since)


def _count(
    asked: aiohttp.TraceRequestEndParams | aiohttp.TraceRequestExceptionParams, status: int, since: float
) -> None:
    verb, resource = verb_of(asked.method, asked.url.path, watch="watch" in asked.url.query)
    exporter.count_request(verb, resource, status, time.monotonic() - since)
