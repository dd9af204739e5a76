"""Progress that is asked of pods: what they answer, and what they cannot make the operator do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from make import loopback
from make.children import SUCCEED, tasks
from make.objects import Object, pod

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import PODS
from ixt_operator.controller import poll
from ixt_operator.controller.poll import Progresses
from ixt_operator.planner.building import PROGRESS_PORT
from ixt_workloads.contract.results import Progress

ONE = tasks("one", SUCCEED)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def halfway(_: web.Request) -> web.Response:
    return web.json_response({"done": 1, "total": 2})


async def newer(_: web.Request) -> web.Response:
    later = dict.fromkeys(map(str, range(500)), "x")
    return web.json_response({"done": 1, "metrics": {"loss": 2, **later}, **later})


async def garbled(_: web.Request) -> web.Response:
    return web.Response(text="[" * poll.MAX_BYTES)


async def silent(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


@asynccontextmanager
async def serving(**answers: Answer) -> AsyncIterator[Cache]:
    """A cache with a running pod for each name, each with an address of its own where it answers so."""
    cache = Cache()
    async with AsyncExitStack() as served:
        part = served.enter_context(loopback.part())
        for number, (name, answer) in enumerate(answers.items(), 1):
            address = f"127.{part}.0.{number}"
            cache.put(PODS, running(name, address))
            app = web.Application()
            app.router.add_get("/{any:.*}", answer)
            await served.enter_async_context(loopback.serving(app, address, PROGRESS_PORT))
        yield cache


def running(name: str, address: str) -> Object:
    found = pod(ONE, name=name, phase="Running", podIP=address)
    found["metadata"]["labels"] = {
        **found["metadata"]["labels"], "batch.kubernetes.io/job-completion-index": "0"
    }  # fmt: skip
    return found


async def asked(cache: Cache) -> tuple[Progresses, list[str]]:
    """What one round brings, and the names of the pods of which something is told."""
    found, told = Progresses(), list[str]()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as http:
        await found.ask(cache, http, lambda pod: told.append(pod["metadata"]["name"]))
    return found, told


async def test_what_a_pod_answers_is_known_by_its_uid() -> None:
    async with serving(one=halfway) as cache:
        assert await asked(cache) == ({"uid-one": Progress(done=1, total=2)}, ["one"])


async def test_of_a_newer_images_answer_as_much_is_read_as_is_known() -> None:
    async with serving(one=newer, other=garbled) as cache:
        found, told = await asked(cache)
    assert (found, told) == ({"uid-one": Progress(done=1, metrics={"loss": 2})}, ["one"])


async def test_a_pod_cannot_send_the_operator_elsewhere() -> None:
    visited: list[str] = []

    async def redirecting(request: web.Request) -> web.Response:
        visited.append(request.path)
        return web.Response(status=302, headers={"Location": "/secret"})

    async with serving(one=redirecting) as cache:
        assert await asked(cache) == ({}, [])
    assert visited == ["/progress"]


async def test_many_that_do_not_answer_leave_the_others_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "AT_ONCE", 2)
    monkeypatch.setattr(poll, "ASK_SECONDS", 0.5)
    dead = {f"dead-{number}": silent for number in range(4)}
    async with serving(**dead, one=halfway) as cache:
        _, told = await asked(cache)
    assert told == ["one"]
