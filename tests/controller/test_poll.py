"""Progress that is asked of pods: what they answer, and what they cannot make the operator do."""

import asyncio
import gzip
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from make import loopback
from make.children import SUCCEED, tasks
from make.objects import Object, container, pod, terminated

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import PODS, Client
from ixt_operator.controller import poll
from ixt_operator.controller.operator import Operator
from ixt_operator.controller.poll import Progresses
from ixt_operator.controller.series import STALE_SECONDS
from ixt_operator.planner.building import PROGRESS_PORT
from ixt_workloads.contract.figures import MAX_SERIES
from ixt_workloads.contract.metrics import CHECKPOINT_TIME, PREPARED_DOCUMENTS
from ixt_workloads.contract.metrics import DOCUMENTS as DOCUMENTS_METRIC
from ixt_workloads.contract.metrics import LOSS as LOSS_METRIC
from ixt_workloads.contract.metrics import SCORE as SCORE_METRIC
from ixt_workloads.contract.results import Progress

ONE = tasks("one", SUCCEED)
LOSS, DOCUMENTS, SAVED = LOSS_METRIC.name, DOCUMENTS_METRIC.name, CHECKPOINT_TIME.name
LEVELS, SCORE = PREPARED_DOCUMENTS.name, SCORE_METRIC.name

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def halfway(_: web.Request) -> web.Response:
    return web.json_response({"done": 1, "total": 2})


async def newer(_: web.Request) -> web.Response:
    later = dict.fromkeys(map(str, range(500)), "x")
    return web.json_response({"done": 1, "figures": {LOSS: {"": 2}, **later}, **later})


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


async def asked(cache: Cache, found: Progresses | None = None) -> tuple[Progresses, list[str]]:
    """What one round brings, and the names of the pods of which something is told."""
    found, told = Progresses() if found is None else found, list[str]()
    async with poll.session() as http:
        await found.ask(cache, http, lambda pod: told.append(pod["metadata"]["name"]))
    return found, told


def saying(*figures: Any) -> Answer:
    """A pod with figures, others each time it is asked."""
    left = list(figures)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"done": 1, "figures": left.pop(0) if left[1:] else left[0]}))

    return answer


async def test_what_a_pod_answers_is_known_by_its_uid() -> None:
    async with serving(one=halfway) as cache:
        assert await asked(cache) == ({"uid-one": Progress(done=1, total=2)}, ["one"])


async def test_a_pod_that_shares_its_nodes_network_is_asked_at_its_own_port() -> None:
    app = web.Application()
    app.router.add_get("/progress", halfway)
    cache = Cache()
    async with loopback.serving(app) as port:
        found = running("one", "127.0.0.1")
        ports = [{"name": "progress", "containerPort": port}]
        found["spec"] |= {"hostNetwork": True, "containers": [{"name": "main", "ports": ports}]}
        cache.put(PODS, found)
        assert await asked(cache) == ({"uid-one": Progress(done=1, total=2)}, ["one"])


async def test_of_a_newer_images_answer_as_much_is_read_as_is_known() -> None:
    async with serving(one=newer, other=garbled) as cache:
        found, told = await asked(cache)
    assert (found, told) == ({"uid-one": Progress(done=1, figures={LOSS: {"": 2}})}, ["one"])


async def test_a_pod_cannot_send_the_operator_elsewhere() -> None:
    visited: list[str] = []

    async def redirecting(request: web.Request) -> web.Response:
        visited.append(request.path)
        return web.Response(status=302, headers={"Location": "/secret"})

    async with serving(one=redirecting) as cache:
        assert await asked(cache) == ({}, [])
    assert visited == ["/progress"]


async def test_a_pod_is_silent_once_it_did_not_answer_several_times_in_a_row() -> None:
    """One that starts does not listen yet."""
    found, answers = Progresses(), [binary, binary, binary, halfway, binary, binary, binary, binary]

    async def answer(request: web.Request) -> web.StreamResponse:
        return await answers.pop(0)(request)

    async with serving(one=answer) as cache:
        for _ in range(7):
            await asked(cache, found)
            assert not found.silent
        await asked(cache, found)
        assert found.silent == {"uid-one"}
        ended = running("one", "127.0.0.1")
        ended["metadata"]["resourceVersion"], ended["status"]["phase"] = "2", "Failed"
        cache.put(PODS, ended)
        await asked(cache, found)
    assert not found.silent


async def test_pods_that_hang_do_not_make_those_wait_that_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "AT_ONCE", 2)
    monkeypatch.setattr(poll, "PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(poll, "ASK_SECONDS", 600)
    again, heard, hung = asyncio.Event(), 0, 0

    async def lively(_: web.Request) -> web.Response:
        nonlocal heard
        heard += 1
        if heard >= 3 and hung == 2:
            again.set()
        return web.json_response({"done": heard})

    async def hanging(_: web.Request) -> web.StreamResponse:
        nonlocal hung
        hung += 1
        return await silent(_)

    found, told = Progresses(), list[str]()
    async with serving(one=lively, **{f"dead-{number}": hanging for number in range(2)}) as cache:
        asking = asyncio.create_task(found.keep(cache, lambda pod: told.append(pod["metadata"]["name"])))
        await asyncio.wait_for(again.wait(), 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert set(told) == {"one"}


async def test_many_that_do_not_answer_leave_the_others_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "AT_ONCE", 2)
    monkeypatch.setattr(poll, "ASK_SECONDS", 0.5)
    dead = {f"dead-{number}": silent for number in range(4)}
    async with serving(**dead, one=halfway) as cache:
        _, told = await asked(cache)
    assert told == ["one"]


# What may be anything


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 2**16)


async def dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


BOMB = gzip.compress(b'{"done": 1}' + b" " * 2**24)


async def bomb(_: web.Request) -> web.Response:
    return web.Response(body=BOMB, headers={"Content-Encoding": "gzip"})


async def binary(_: web.Request) -> web.Response:
    return web.Response(body=bytes(range(256)))


async def odd(_: web.Request) -> web.Response:
    return web.json_response(["done", {"figures": None}])


async def broken(_: web.Request) -> web.Response:
    return web.Response(text='{"done": 1, "figures": ' + '{"a":' * 2000)


@pytest.mark.parametrize("answer", [endless, dripping, bomb, binary, odd, broken, silent])
async def test_an_answer_that_is_none_costs_nothing_and_is_told(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "ASK_SECONDS", 0.5)
    async with serving(one=answer, other=halfway) as cache:
        found, told = await asked(cache)
    assert (list(found), told) == (["uid-other"], ["other"])


async def test_an_answer_in_pieces_is_read_to_its_end() -> None:
    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b'{"done"', b": 1", b"}"):
            await response.write(part)
            await asyncio.sleep(0.02)
        return response

    async with serving(one=pieces) as cache:
        found, _ = await asked(cache)
    assert found == {"uid-one": Progress(done=1)}


NEVER = time.time() + 1e9


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ({LOSS: {"": float("nan")}}, "NotFinite"),
        ({LOSS: {"": float("inf")}}, "NotFinite"),
        ({LOSS: {"": 1e300}}, "TooLarge"),
        ({DOCUMENTS: {"Ok": -1}}, "Negative"),
        ({DOCUMENTS: {"Ok": "many"}}, "NoNumber"),
        ({DOCUMENTS: {"Ok": None}}, "NoNumber"),
        ({DOCUMENTS: {"Ok": {"more": 1}}}, "NoNumber"),
        ({DOCUMENTS: {"Ok": 10**400}}, "NoNumber"),
        ({DOCUMENTS: [1, 2]}, "NoNumber"),
        ({"ixt_runs": {"": 1}}, "UnknownMetric"),
        ({LEVELS: {"11": 1}}, "UnknownLabels"),
        ({DOCUMENTS: {'Ok"} 1\nixt_runs{run="other': 1}}, "UnknownLabels"),
        ({DOCUMENTS: {"Ok,other-run": 1}}, "UnknownLabels"),
        ({DOCUMENTS: {"\ud800": 1}}, None),
        ({SAVED: {"": NEVER}}, "Future"),
    ],
)
async def test_what_cannot_be_is_left_out_and_counted(figures: Any, why: str | None) -> None:
    refused: Counter[str] = Counter()
    async with serving(one=saying({LOSS: {"": 2.0}, **figures})) as cache:
        found, _ = await asked(cache, Progresses(refused.update))
    shown = {name: values for name, values in found.get("uid-one", Progress()).figures.items() if values}
    assert shown in ({LOSS: {"": 2.0}}, {})
    assert refused == ({why: 1} if why else {})


async def test_what_was_counted_stays_counted() -> None:
    refused: Counter[str] = Counter()
    found = Progresses(refused.update)
    async with serving(one=saying({DOCUMENTS: {"Ok": 5}}, {DOCUMENTS: {"Ok": 3}}, {})) as cache:
        for _ in range(3):
            await asked(cache, found)
            assert found["uid-one"].figures == {DOCUMENTS: {"Ok": 5}}
    assert refused == {"Backwards": 2}


async def test_other_labels_each_time_do_not_fill_the_memory() -> None:
    rounds = [{SCORE: {f"Best,{number}-{label}": 1 for label in range(200)}} for number in range(3)]
    found = Progresses()
    async with serving(one=saying(*rounds)) as cache:
        for _ in rounds:
            await asked(cache, found)
    assert len(found["uid-one"].figures[SCORE]) <= MAX_SERIES


async def test_figures_that_are_none_leave_the_progress() -> None:
    refused: Counter[str] = Counter()
    async with serving(one=saying([1, 2])) as cache:
        found, _ = await asked(cache, Progresses(refused.update))
    assert (found, refused) == ({"uid-one": Progress(done=1)}, {"NoNumber": 1})


async def test_it_is_known_when_a_pod_answered_and_what_it_said_last_until_it_is_gone() -> None:
    found, before = Progresses(), time.time()
    assert found.unheard("uid-one")
    async with serving(one=halfway) as cache:
        await asked(cache, found)
        assert before <= found.told_at["uid-one"] <= time.time()
        ended = running("one", "127.0.0.1")
        ended["metadata"]["resourceVersion"], ended["status"]["phase"] = "2", "Failed"
        cache.put(PODS, ended)
        await asked(cache, found)
        assert found == {"uid-one": Progress(done=1, total=2)}
        cache.drop(PODS, ended)
        await asked(cache, found)
    assert found == found.told_at == {}


async def test_an_operator_whose_clock_is_off_shows_figures_as_new_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api: Any = None
    client = Client(api)
    monkeypatch.setattr(client, "now", lambda: time.time() + 120.0)
    operator = Operator(client, (), 600.0)
    async with serving(one=halfway) as cache:
        await asked(cache, operator.progress)
    assert client.now() - operator.progress.told_at["uid-one"] < STALE_SECONDS


async def test_a_pod_whose_main_container_ended_is_asked_no_more() -> None:
    """Whatever runs on beside it does not answer."""
    async with serving(one=halfway, other=halfway) as cache:
        ended = running("one", "127.0.0.1")
        ended["metadata"]["resourceVersion"] = "2"
        ended["status"] |= container(terminated=terminated(0))
        cache.put(PODS, ended)
        found, told = await asked(cache)
    assert (list(found), told, found.silent) == (["uid-other"], ["other"], set())


async def test_a_pod_that_was_there_before_the_operator_is_unheard_until_it_answers() -> None:
    """What it told another operator is not known yet; one that starts later has told nobody anything."""
    found = Progresses()
    async with serving(one=binary) as cache:
        await asked(cache, found)
        cache.put(PODS, running("later", "127.0.0.1"))
        assert (found.unheard("uid-one"), found.unheard("uid-later")) == (True, False)
