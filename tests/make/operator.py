"""The operator as a process of its own, against the cluster of a kubeconfig."""

import asyncio
import multiprocessing
import os
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from ixt_operator.adapters.kubernetes.client import Client

PATIENCE_SECONDS = 120.0
"""Other work on the machine may slow all down."""


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Client]:
    """A client with the rights of the kubeconfig."""
    found = Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=found)
    async with ApiClient(found) as api:
        yield Client(api)


_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["ixt_operator.controller.app"])


class Operator:
    """One replica. Its process is forked from one that has everything imported: tests start hundreds."""

    def __init__(self, kubeconfig: Path, folder: Path, *arguments: str, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"operator-{port}.log"
        self.port = port
        self._arguments = ([f"--port={port}", *arguments], str(kubeconfig), str(self.log))
        self.start()

    def start(self) -> None:
        """Start it, again if need be."""
        self.process = _forks.Process(target=_main, args=self._arguments, daemon=True)
        self.process.start()

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process.pid
        os.kill(self.process.pid, number)

    async def ended(self, seconds: float = 30) -> int | None:
        """Wait for its end; the exit code, None if it does not end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.process.exitcode is None:
                    await asyncio.sleep(0.02)
        return self.process.exitcode

    def leads(self) -> bool:
        """Whether it says of itself that it leads."""
        return "ixt_operator_leader 1.0" in self.metrics()

    def metrics(self) -> str:
        """Its metrics; nothing while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""


@asynccontextmanager
async def operator(kubeconfig: Path, folder: Path, *arguments: str, port: int) -> AsyncIterator[Operator]:
    """An operator that is ended in good order."""
    found = Operator(kubeconfig, folder, *arguments, port=port)
    try:
        yield found
    finally:
        if not found.process.is_alive():
            found.process.close()
        else:
            found.signal(signal.SIGTERM)
            if await found.ended(15) is None:
                found.process.kill()
                raise AssertionError(f"it does not end when told to: {found.log.read_text()[-2000:]}")


def _main(argv: list[str], kubeconfig: str, log: str) -> None:
    """The operator's whole process, as `python -m ixt_operator.controller.app` is."""
    from ixt_operator.controller.app import app

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ["KUBECONFIG"] = kubeconfig
    app(argv)


async def eventually(
    what: Callable[[], Any], holds: Callable[[Any], bool] = bool, seconds: float = PATIENCE_SECONDS
) -> Any:
    """The first look for which something holds; `what` may answer an awaitable."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if asyncio.iscoroutine(found):
            found = await found
        if holds(found):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
