"""/healthz, /readyz and /metrics, on the leader and on those who wait."""

from aiohttp import web
from prometheus_client import generate_latest

from ixt_operator.controller import exporter


async def serve(port: int) -> web.AppRunner:
    """Serve until the answer is cleaned up. Raises OSError when the port cannot be had."""

    async def ok(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(exporter.registry), content_type="text/plain", charset="utf-8"
        )

    app = web.Application()
    app.router.add_get("/healthz", ok)
    app.router.add_get("/readyz", ok)
    app.router.add_get("/metrics", scrape)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
