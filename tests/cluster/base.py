"""What both levels of a cluster share: programs that run, and the files that its clients need."""

import ssl
import subprocess
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cluster import certificates
from cluster.kubectl import Kubectl

PATIENCE_SECONDS = 120
TAIL_LINES = 15


class ClusterError(RuntimeError):
    """The cluster does not do what it should; the message has the end of the log that tells why."""


def serves(url: str) -> bool:
    """Whether a GET over plain HTTP is answered with success."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


class Cluster(ABC):
    """A running Kubernetes. Each program may be stopped, looked at by its pid, and started again by name."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.server = server
        self.kubeconfig = folder / "admin.kubeconfig"
        self.pki = folder / "pki"
        self._commands: dict[str, Sequence[str]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for made in (self.pki, folder / "log"):
            made.mkdir(mode=0o700)

    def kubectl(self, namespace: str = "default") -> Kubectl:
        """kubectl as the cluster's administrator."""
        return Kubectl(self.kubeconfig, namespace)

    def run(self, name: str, command: Sequence[str]) -> None:
        """Start a program with a log of its own, FOLDER/log/NAME.log."""
        self._commands[name] = command
        with self.log(name).open("ab") as log:
            self._processes[name] = self._popen(command, log.fileno())

    def start(self, name: str) -> None:
        """Start a program again that was stopped."""
        self.run(name, self._commands[name])

    def stop(self, name: str) -> None:
        """SIGKILL a program and see it end."""
        process = self._processes.pop(name)
        self._kill(process)
        process.wait()

    @abstractmethod
    def pid(self, name: str) -> int:
        """The pid of a program on this machine."""

    def programs(self) -> list[str]:
        """The names of all programs that run."""
        return [*self._processes]

    def pids(self) -> list[int]:
        """The pids of all programs."""
        return [self.pid(name) for name in self._processes]

    def log(self, name: str) -> Path:
        """What a program writes."""
        return self.folder / "log" / f"{name}.log"

    def get(self, path: str) -> bytes:
        """What the API server answers. Raises OSError, also for an answer that is no success."""
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.credentials()))
        with urllib.request.build_opener(*handlers).open(self.server + path, timeout=5) as answer:
            return bytes(answer.read())

    def answers(self, path: str) -> bool:
        """Whether the API server answers GET with success."""
        try:
            self.get(path)
        except OSError:
            return False
        return True

    def credentials(self) -> ssl.SSLContext:
        """The administrator's, for connections to the API server."""
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        return context

    def until(self, holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until something holds, as long as every program runs. Raises ClusterError."""
        deadline = time.monotonic() + seconds
        while not holds():
            self.check()
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {name}\n{self._tail(name)}" for name in self._processes)
                raise ClusterError(f"no {what} after {seconds} s\n{tails}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise ClusterError unless every program runs."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ClusterError(f"{name} ended with {process.returncode}:\n{self._tail(name)}")

    def _clients(self, authority: certificates.Authority, users: dict[str, tuple[str, str]]) -> None:
        """A certificate and kubeconfig for each client: its user name and group."""
        for file, (user, group) in users.items():
            authority.issue(file, user, group)
            certificates.kubeconfig(self.folder / f"{file}.kubeconfig", self.server, self.pki, file)

    def _tail(self, name: str) -> str:
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-TAIL_LINES:])

    @abstractmethod
    def _popen(self, command: Sequence[str], log: int) -> "subprocess.Popen[bytes]": ...

    @abstractmethod
    def _kill(self, process: "subprocess.Popen[bytes]") -> None: ...
