"""/metrics and the probes: in which format and to whom."""

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from kubernetes.aio.client import ApiClient
from make import loopback

from ixt_operator.adapters.kubernetes.client import ApiError, Client, Object
from ixt_operator.controller import guarding, serving
from ixt_operator.controller.guarding import Access, Certificate
from ixt_operator.controller.serving import Exposition, Secure, serve

GOOD, OTHER = "good-token", "other-token"


class Reviews(Client):
    """An API server that knows two tokens, of which one may get /metrics."""

    def __init__(self) -> None:
        super().__init__(cast(ApiClient, None))
        self.asked: list[str] = []
        self.away = False

    async def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        assert method == "POST" and body
        self.asked.append(path.rpartition("/")[2])
        if self.away:
            raise ApiError(0, "Unreachable", "no answer")
        spec = body["spec"]
        if body["kind"] == "TokenReview":
            known = {GOOD: "prometheus", OTHER: "somebody"}.get(spec["token"])
            user = {"username": known, "groups": ["g"], "uid": "1", "extra": {"a": ["b"]}}
            return {"status": {"authenticated": True, "user": user} if known else {}}
        assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
        assert (spec["groups"], spec["uid"], spec["extra"]) == (["g"], "1", {"a": ["b"]})
        return {"status": {"allowed": spec["user"] == "prometheus"}}


def exposition(accept: str) -> tuple[bytes, str]:
    return (b"# EOF\n", "application/openmetrics-text") if accept else (b"a 1\n" * 99, "text/plain")


@asynccontextmanager
async def served(
    secure: Any = None, shown: Exposition = exposition, unready: Callable[[], str] = lambda: ""
) -> AsyncIterator[tuple[int, int]]:
    """The ports of probes and of secure metrics."""
    with loopback.part() as part:
        ports = loopback.port(part), loopback.port(part, 1)
        runner = await serve(ports[0], shown, unready, secure(ports[1]) if secure else None)
        try:
            yield ports
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "*/*"])
async def test_by_default_the_text_is_plain(accept: str) -> None:
    async with served() as (port, _), aiohttp.ClientSession(headers={"Accept": accept}) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
        assert (await answer.text(), answer.content_type) == ("a 1\n" * 99, "text/plain")


async def test_openmetrics_and_compression_are_for_who_asks() -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2"}
    async with served() as (port, _), aiohttp.ClientSession(auto_decompress=False) as http:
        async with http.get(f"http://127.0.0.1:{port}/metrics", headers=accept) as answer:
            assert answer.content_type == "application/openmetrics-text"
        for asked, told in (("gzip", "gzip"), ("identity", None)):
            headers = {"Accept-Encoding": asked}
            async with http.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer:
                assert answer.headers.get("Content-Encoding") == told


async def test_many_scrapes_at_once_cost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "FRESH_SECONDS", 60)
    made: list[str] = []

    def counted(accept: str) -> tuple[bytes, str]:
        made.append(accept)
        return exposition(accept)

    async with served(shown=counted) as (port, _), aiohttp.ClientSession() as http:
        for _ in range(5):
            await (await http.get(f"http://127.0.0.1:{port}/metrics")).read()
    assert len(made) == 1


# Over TLS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A certificate as a Secret is mounted, and in `ca.crt` who issued it."""
    pytest.importorskip("cryptography")
    issued(tmp_path)
    return tmp_path


def issued(folder: Path) -> None:
    from cluster.certificates import Authority

    Authority.create(folder, "ca").issue("tls", "ixt", hosts=("127.0.0.1",))


@asynccontextmanager
async def scraping(folder: Path, reviews: Reviews, token: str = GOOD) -> AsyncIterator[Any]:
    """A function that scrapes over a new connection, and tells status and body."""

    async def scrape(token: str = token) -> tuple[int, str]:
        trusted = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(ssl=trusted)
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.get(f"https://127.0.0.1:{port}/metrics", headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    async with served(lambda port: Secure(port, Certificate(folder), Access(reviews))) as (probes, port):
        async with aiohttp.ClientSession() as http:
            assert (await http.get(f"http://127.0.0.1:{probes}/healthz")).status == 200
            assert (await http.get(f"http://127.0.0.1:{probes}/metrics")).status == 404
        yield scrape


async def test_over_tls_the_api_server_says_who_may_scrape(folder: Path) -> None:
    async with scraping(folder, Reviews()) as scrape:
        assert await scrape() == (200, "a 1\n" * 99)
        for token, status in ((OTHER, 403), ("forged", 401), ("", 401)):
            assert await scrape(token) == (status, "")


async def test_the_api_server_is_asked_once_a_minute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reviews = Reviews()
    async with scraping(folder, reviews) as scrape:
        for _ in range(3):
            assert (await scrape())[0] == 200
        assert reviews.asked == ["tokenreviews", "subjectaccessreviews"]
        reviews.away = True
        assert (await scrape())[0] == 200
        monkeypatch.setattr(guarding, "MOST_TOKENS", 0)
        assert (await scrape("unseen"))[0] == 503
        reviews.away = False
        assert (await scrape("unseen"))[0] == 401


async def test_what_was_allowed_is_asked_again_after_a_minute() -> None:
    now, reviews = [0.0], Reviews()
    access = Access(reviews, lambda: now[0])
    for seconds, times in ((0.0, 1), (59.0, 1), (61.0, 2)):
        now[0] = seconds
        assert await access._status(GOOD, "/metrics") == 200
        assert reviews.asked.count("tokenreviews") == times


async def test_a_certificate_that_was_renewed_is_taken(folder: Path) -> None:
    async with scraping(folder, Reviews()) as scrape:
        assert (await scrape())[0] == 200
        (folder / "tls.crt").unlink()
        assert (await scrape())[0] == 200
        issued(folder)
        assert (await scrape())[0] == 200


def test_a_certificate_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"tls\.crt"):
        Certificate(tmp_path).context()


@pytest.mark.parametrize(("why", "status"), [("", 200), ("cannot read the Lease", 503)])
async def test_who_is_not_ready_says_why_and_lives(why: str, status: int) -> None:
    async with served(unready=lambda: why) as (port, _), aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert (answer.status, await answer.text()) == (status, why or "ok")
        async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
