"""Watches that drop events, repeat them, are late or tell what was: the run ends as if they had not."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from cluster.on_control_plane.operating import Field, as_if_undisturbed, committed
from make import cli
from make.proxy import Alter, Call, Proxy

Lines = AsyncIterator[bytes]


async def dropped(lines: Lines) -> Lines:
    """Every second event is never told."""
    told = True
    async for line in lines:
        if told:
            yield line
        told = not told


async def repeated(lines: Lines) -> Lines:
    async for line in lines:
        for _ in range(3):
            yield line


async def delayed(lines: Lines) -> Lines:
    chance = random.Random(1)
    async for line in lines:
        await asyncio.sleep(chance.uniform(0, 0.4))
        yield line


async def stale(lines: Lines) -> Lines:
    """After each event comes one from before, as from a server that lags: what is gone is there again."""
    chance, past = random.Random(1), list[bytes]()
    async for line in lines:
        yield line
        past.append(line)
        yield chance.choice(past)


@pytest.mark.parametrize("alter", [dropped, repeated, delayed, stale], ids=lambda alter: alter.__name__)
async def test_a_run_does_not_mind(field: Field, proxy: Proxy, alter: Alter) -> None:
    altered = list[str]()

    async def handler(call: Call) -> web.StreamResponse | None:
        if not call.is_watch:
            return None
        altered.append(call.path)
        return await call.pass_on(alter)

    proxy.handler = handler
    async with field.operator("--resync-seconds=2", kubeconfig=proxy.kubeconfig):
        name = field.apply()
        await field.until_phase(name, "Complete")
    assert any("/pods" in path for path in altered)
    await as_if_undisturbed(field, name)
    assert set(committed(field).values()) == {1}


async def test_watches_that_tell_nothing_are_made_good_by_a_listing(field: Field, proxy: Proxy) -> None:
    async def silent(call: Call) -> web.StreamResponse | None:
        if call.is_watch:
            await asyncio.sleep(3600)
        return None

    proxy.handler = silent
    async with field.operator("--resync-seconds=1", kubeconfig=proxy.kubeconfig):
        name = field.apply(**cli.PLAIN)
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)


async def test_watches_that_end_at_once_are_taken_up_again(field: Field, proxy: Proxy) -> None:
    """As a server does that forgot the version from which it is asked to go on."""

    async def handler(call: Call) -> web.StreamResponse | None:
        if not call.is_watch:
            return None
        await asyncio.sleep(0.5)
        gone = (
            b'{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired"}}\n'
        )
        return web.Response(body=gone, content_type="application/json")

    proxy.handler = handler
    async with field.operator(kubeconfig=proxy.kubeconfig):
        name = field.apply(**cli.PLAIN)
        await field.until_phase(name, "Complete")
    await as_if_undisturbed(field, name)
