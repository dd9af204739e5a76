"""A proxy between an operator and the API server, in which every request can be made to fail."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from make import loopback

Handler = Callable[["Call"], Awaitable[web.StreamResponse | None]]
"""Answers a call in place of the API server, or None to let it pass."""

Alter = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Makes other lines of the lines of an answer; a watch has one for each event."""

LONGEST_LINE_BYTES = 2**22


@dataclass
class Call:
    """One request of the operator."""

    method: str
    path: str
    body: bytes
    pass_on: Callable[[Alter | None], Awaitable[web.StreamResponse]]
    """Ask the API server; its answer, with its lines altered if need be."""
    reset: Callable[[], None]
    """Cut the connection; what is answered then is lost."""

    @property
    def is_write(self) -> bool:
        """A write that a run makes: the lease's are not."""
        return self.method != "GET" and "/leases" not in self.path

    @property
    def is_watch(self) -> bool:
        return "watch=true" in self.path


@dataclass
class Proxy:
    """Where the operator connects, what it asked, and what is done about it."""

    kubeconfig: Path
    handler: Handler | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request, in order."""


def failure(status: int, reason: str, **headers: str) -> web.Response:
    """An answer of the API server that it could not or would not."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": reason,
        "code": status,
    }
    return web.json_response(body, status=status, headers=headers)


@asynccontextmanager
async def proxied(server: str, pki: Path, folder: Path) -> AsyncIterator[Proxy]:
    """A proxy to the API server, with the administrator's rights."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    proxy = Proxy(folder / "proxied.kubeconfig")
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, read_bufsize=LONGEST_LINE_BYTES
    ) as upstream:

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()

            async def pass_on(alter: Alter | None = None) -> web.StreamResponse:
                return await _forward(upstream, server, request, body, alter)

            def reset() -> None:
                assert request.transport
                request.transport.abort()

            call = Call(request.method, str(request.rel_url), body, pass_on, reset)
            proxy.calls.append((call.method, call.path))
            found = await proxy.handler(call) if proxy.handler else None
            return await pass_on() if found is None else found

        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", handle)
        async with loopback.serving(app) as port:
            proxy.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(f"http://127.0.0.1:{port}")))
            yield proxy


async def _forward(
    upstream: aiohttp.ClientSession,
    server: str,
    request: web.Request,
    body: bytes,
    alter: Alter | None,
) -> web.StreamResponse:
    """The API server's answer, passed on as it comes."""
    skipped = {"host", "content-length", "connection", "transfer-encoding"}
    headers = {name: value for name, value in request.headers.items() if name.lower() not in skipped}
    async with upstream.request(
        request.method, f"{server}{request.rel_url}", headers=headers, data=body or None
    ) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in skipped}
        response = web.StreamResponse(status=answer.status, headers=kept)
        with suppress(ConnectionError):  # whoever asked is gone
            await response.prepare(request)
            async for chunk in alter(aiter(answer.content)) if alter else answer.content.iter_any():
                await response.write(chunk)
        return response


def _kubeconfig(server: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxied",
        "clusters": [{"name": "proxied", "cluster": {"server": server}}],
        "users": [{"name": "proxied", "user": {}}],
        "contexts": [{"name": "proxied", "context": {"cluster": "proxied", "user": "proxied"}}],
    }
