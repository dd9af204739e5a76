"""The operator as a process of its own, against the cluster of a kubeconfig."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from ixt_operator.adapters.kubernetes.client import Client

PATIENCE_SECONDS = 60.0


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Client]:
    """A client with the rights of the kubeconfig."""
    found = Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=found)
    async with ApiClient(found) as api:
        yield Client(api)


class Operator:
    """One replica."""

    def __init__(self, kubeconfig: Path, folder: Path, *arguments: str, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"operator-{port}.log"
        self.port = port
        command = [sys.executable, "-m", "ixt_operator.controller.app", f"--port={port}", *arguments]
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**env, "KUBECONFIG": str(kubeconfig)}, stdout=log, stderr=log
            )

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal, SIGKILL by default, and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

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


@contextmanager
def operator(kubeconfig: Path, folder: Path, *arguments: str, port: int) -> Iterator[Operator]:
    """An operator that is ended in good order."""
    found = Operator(kubeconfig, folder, *arguments, port=port)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.kill(signal.SIGTERM)


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
