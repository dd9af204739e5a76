"""kopf's requests, as the operator counts them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import kopf
import pytest
from aiohttp import web
from make import bombs, loopback

from ixt_operator.adapters.kubernetes.client import verb_of
from ixt_operator.controller import exporter
from ixt_operator.controller.connecting import Login
from ixt_workloads.contract.foreign import MAX_LEVELS
from ixt_workloads.contract.metrics import REQUESTS as REQUESTS_METRIC
from ixt_workloads.contract.metrics import WATCH_RESTARTS

PODS = "/api/v1/namespaces/default/pods"
RESTARTS, REQUESTS = WATCH_RESTARTS.name, REQUESTS_METRIC.name


@pytest.fixture
def pods() -> list[str]:
    """The pods that there are, as JSON."""
    return []


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pods: list[str]) -> AsyncIterator[str]:
    """The address of an API server that a kubeconfig names."""

    async def answer(request: web.Request) -> web.Response:
        if "watch" in request.query:
            return web.Response(text="".join(f'{{"type":"ADDED","object":{pod}}}\n' for pod in pods))
        return web.Response(text=f'{{"items":[{",".join(pods)}]}}', content_type="application/json")

    async def forbidden(_: web.Request) -> web.Response:
        return web.json_response({}, status=403)

    app = web.Application()
    app.router.add_get(PODS, answer)
    app.router.add_get("/api/v1/namespaces/other/pods", forbidden)
    async with loopback.serving(app) as port:
        url = f"http://127.0.0.1:{port}"
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {
            "clusters": [{"name": "c", "cluster": {"server": url}}], "contexts": [context],
            "users": [{"name": "u", "user": {"token": "t"}}], "current-context": "c",
        }  # fmt: skip
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield url


def seen(name: str, **labels: str) -> float:
    return exporter.registry.get_sample_value(name, labels) or 0.0


async def test_a_watch_that_is_opened_again_is_a_restart(server: str) -> None:
    login = Login()
    session = await login(settings=kopf.OperatorSettings())
    assert session is not None
    restarts, lists = (
        seen(RESTARTS, resource="pods"),
        seen(REQUESTS, verb="list", resource="pods", code="200"),
    )
    async with session.aiohttp_session as http:
        for number in range(3):
            await (await http.get(server + PODS)).read()
            await (await http.get(f"{server}{PODS}?watch=true&resourceVersion={number}")).read()
            assert seen(RESTARTS, resource="pods") == restarts + number
        await (await http.get(f"{server}/apis/apps/v1/deployments?watch=true")).read()
    assert seen(REQUESTS, verb="list", resource="pods", code="200") == lists + 3
    assert seen(REQUESTS, verb="watch", resource="deployments", code="404") >= 1


async def test_a_namespace_whose_watch_is_forbidden_is_told(server: str) -> None:
    told: list[str] = []
    session = await Login(told.append)(settings=kopf.OperatorSettings())
    assert session is not None
    async with session.aiohttp_session as http:
        await (await http.get(f"{server}{PODS}?watch=true")).read()
        assert told == []
        await (await http.get(f"{server}/api/v1/namespaces/other/pods?watch=true")).read()
    assert told == ["other"]


async def test_credentials_that_were_refused_are_known_again(server: str) -> None:
    """Else kopf would try the same ones for ever."""
    one, two = [await Login()(settings=kopf.OperatorSettings()) for _ in range(2)]
    assert one is not None and two is not None
    assert one == two
    for session in (one, two):
        await session.aiohttp_session.close()


@pytest.mark.parametrize(
    ("method", "path", "verb", "resource"),
    [
        ("GET", "/api/v1/pods", "list", "pods"),
        ("GET", PODS, "list", "pods"),
        ("GET", f"{PODS}/a", "get", "pods"),
        ("PATCH", f"{PODS}/a/status", "patch", "pods/status"),
        ("POST", "/apis/batch/v1/namespaces/default/jobs", "create", "jobs"),
        ("PUT", "/apis/ixt.dev/v1alpha1/namespaces/a/ixtruns/b/status", "update", "ixtruns/status"),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments/b", "delete", "deployments"),
        ("GET", "/apis/ixt.dev/v1alpha1/ixtruntimes", "list", "ixtruntimes"),
        ("GET", "/version", "get", ""),
    ],
)
def test_a_request_has_a_verb_and_a_resource(method: str, path: str, verb: str, resource: str) -> None:
    assert verb_of(method, path) == (verb, resource)


async def test_of_an_object_with_many_values_kopf_gets_what_is_read(server: str, pods: list[str]) -> None:
    """kopf keeps a page of objects, and the last event of each: of these it would take 30 MiB each."""
    many = bombs.wide(400_000)
    pods += [
        f'{{"metadata":{{"name":"a","uid":"1"}},"spec":{{"nodeName":"n","tolerations":{many}}},"status":{{}}}}',
        bombs.deepened(
            f'{{"metadata":{{"name":"b","uid":"2"}},"spec":{{"x":"<deep>","tolerations":{many}}}}}'
        ),
        '{"metadata":{"name":"c \u00fc","uid":"3"},"spec":{"nodeName":"n"}}',
    ]
    for found in await listed_and_watched(server, 2**16):
        assert [pod["metadata"]["name"] for pod in found] == ["a", "b", "c \u00fc"]
        assert [pod["spec"]["nodeName"] for pod in found] == ["n", "", "n"]
        assert not any("tolerations" in pod["spec"] for pod in found)


async def test_no_object_is_nested_deeper_than_kopf_can_read(server: str, pods: list[str]) -> None:
    """kopf's parser would raise RecursionError, which ends the operator, and the next leader."""
    pods += [
        '{"metadata":{"name":"honest","labels":{"a":"[[\\"{"}}}',
        bombs.deepened('{"metadata":{"name":"hostile"},"spec":"<deep>"}'),
    ]
    for found in await listed_and_watched(server, 1000):
        assert [pod["metadata"]["name"] for pod in found] == ["honest", "hostile"]
        assert found[0]["metadata"]["labels"] == {"a": '[["{'}
        assert levels(found[1]) <= MAX_LEVELS


async def listed_and_watched(server: str, size: int) -> tuple[list[Any], list[Any]]:
    """The pods that kopf gets by a list and by a watch, which is read in parts of so many bytes at most."""
    session = await Login()(settings=kopf.OperatorSettings())
    assert session is not None
    async with session.aiohttp_session as http:
        async with http.get(server + PODS) as answer:
            listed = (await answer.json())["items"]
        async with http.get(f"{server}{PODS}?watch=true") as answer:
            lines = b"".join([part async for part in answer.content.iter_chunked(size)]).splitlines()
    return listed, [json.loads(line)["object"] for line in lines]


def levels(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(levels, items), default=0)
