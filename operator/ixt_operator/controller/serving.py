"""/healthz, /readyz and /metrics, on the leader and on those who wait."""

import asyncio
import gzip
import time
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web
from prometheus_client.exposition import gzip_accepted

from ixt_operator.controller.guarding import Access, Certificate, Handler

FRESH_SECONDS = 1.0
"""For so long an exposition is sent again: whoever may scrape cannot keep the operator from its work."""
OPENMETRICS = "application/openmetrics-text"

Exposition = Callable[[str], tuple[bytes, str]]
"""All series and their media type, for the types that are accepted."""


class Secure(NamedTuple):
    """How /metrics is served over TLS, to those whom the API server lets."""

    port: int
    certificate: Certificate
    access: Access


async def serve(
    port: int, exposition: Exposition, unready: Callable[[], str], secure: Secure | None = None
) -> web.AppRunner:
    """Serve until the answer is cleaned up: /metrics beside the others, or on a port of its own. `unready`
    says why this process is not ready, if it is not. Raises OSError when a port or the certificate cannot be
    had."""

    async def ok(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readiness(_: web.Request) -> web.Response:
        why = unready()
        return web.Response(text=why or "ok", status=503 if why else 200)

    probes, metrics = web.Application(), web.Application()
    probes.router.add_get("/healthz", ok)
    probes.router.add_get("/readyz", readiness)
    (metrics if secure else probes).router.add_get("/metrics", _scraped(exposition))
    if secure:
        metrics.middlewares.append(secure.access.middleware)
    guarded = web.AppRunner(metrics, access_log=None)
    probes.on_cleanup.append(lambda _: guarded.cleanup())
    runner = web.AppRunner(probes, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    if secure:
        await guarded.setup()
        await web.TCPSite(guarded, port=secure.port, ssl_context=secure.certificate.context()).start()
    return runner


def _scraped(exposition: Exposition) -> Handler:
    kept: dict[str, tuple[float, bytes, str]] = {}

    async def scraped(request: web.Request) -> web.StreamResponse:
        accept = f"{OPENMETRICS};version=1.0.0" if OPENMETRICS in request.headers.get("Accept", "") else ""
        if accept not in kept or time.monotonic() > kept[accept][0] + FRESH_SECONDS:
            kept[accept] = (time.monotonic(), *exposition(accept))
        _, body, media_type = kept[accept]
        headers = {"Content-Type": media_type, "Vary": "Accept, Accept-Encoding"}
        if gzip_accepted(request.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
            body = await asyncio.to_thread(gzip.compress, body, 1)
        return web.Response(body=body, headers=headers)

    return scraped
