"""Servers of a pod are reached by whatever addresses its cluster has."""

import asyncio
import socket
import urllib.request
from typing import Any

import pytest

from ixt_workloads import listening
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.annotate.wire import addresses

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@needs_ipv6
def test_a_step_in_a_pod_answers_on_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("IXT_HOST", "::")
    monkeypatch.setenv("IXT_PORT_PROGRESS", str(port))
    with Reporter.from_environment() as reporter:
        reporter.update(3, 7, "documents")
        for address in ("127.0.0.1", "[::1]"):
            with urllib.request.urlopen(f"http://{address}:{port}/progress", timeout=10) as answer:
                assert b'"done":3' in answer.read()


@pytest.mark.parametrize(("ipv6", "host"), [(True, "::"), (False, "0.0.0.0")])
def test_without_ipv6_it_is_all_of_ipv4(monkeypatch: pytest.MonkeyPatch, ipv6: bool, host: str) -> None:
    monkeypatch.setenv("IXT_HOST", "::")
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: ipv6)
    assert listening.host() == host
    monkeypatch.setenv("IXT_HOST", "127.0.0.7")
    assert listening.host() == "127.0.0.7"


async def test_replicas_of_a_judge_are_called_by_bracketed_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: Any) -> list[Any]:
        return [(socket.AF_INET6, None, None, "", (f"fd00::{last}", 8000, 0, 0)) for last in (2, 1)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    assert await addresses("http://judge.default.svc:8000/v1") == [
        "http://[fd00::1]:8000/v1",
        "http://[fd00::2]:8000/v1",
    ]
