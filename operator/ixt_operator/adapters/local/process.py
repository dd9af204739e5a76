"""A supervised process: how it is started and stopped, and what it leaves on disk."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ixt_operator.adapters.local.leftovers import MARK
from ixt_operator.adapters.local.workdir import LocalError
from ixt_operator.planner.child import Child
from ixt_workloads.contract.credentials import prefix_of
from ixt_workloads.contract.results import Result
from ixt_workloads.contract.versions import read_known

SUPERVISOR = Path(__file__).with_name("supervisor.py")
LAST_LOG_LINES, LAST_LOG_BYTES = 20, 2048

_OF_ONE_CHILD = re.compile(r"IXT_(TASK|RESULT|INDEX|HOST|LEADER|API_KEY|JUDGE_API_KEY|PORT_.*|.*_URLS)")
"""Variables of one process alone, not handed on: they are set when `ixt run` itself runs in a step."""


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    """Negative: the signal that killed it."""
    at: float
    """Unix seconds."""
    reason: str
    """OOMKilled, or nothing."""


@dataclass
class Process:
    """One process of a child."""

    folder: Path
    """Its state: result.json and exit.json."""
    log: Path
    index: int
    ports: dict[str, int] = field(default_factory=dict)
    first_started_at: float = 0.0
    started_at: float = 0.0
    """Unix seconds of the newest start."""
    restarts: int = 0
    ready_since: float | None = None
    """Unix seconds; None while it is not ready."""
    ever_ready: bool = False
    reason: str = ""
    """NeverReady, after it took too long to become ready."""
    stopping: bool = False
    cleared: bool = False
    """What its killed supervisor left running was killed."""
    popen: subprocess.Popen[bytes] | None = None
    """Its supervisor, if this program started it."""
    before: tuple[Ended, Result | None] | None = None
    """How it ended before it was started anew, with its result; None also if its supervisor was killed."""
    _reserved: list[socket.socket] = field(default_factory=list)
    _exit: Ended | None = None

    @property
    def alive(self) -> bool:
        """Its supervisor lives. To be asked before `exit`, which a supervisor writes just before it ends."""
        return self.popen is not None and self.popen.poll() is None

    @property
    def lost(self) -> bool:
        """Its supervisor was killed, and what that left running is not killed yet."""
        return self.popen is not None and not self.cleared and not self.alive and self.exit() is None

    def reserve(self, names: Collection[str]) -> None:
        """Reserve a port of 127.0.0.1 for each name: the kernel gives it to nobody else until `release`."""
        for name in names:
            reserved = socket.socket()
            self._reserved.append(reserved)
            # This socket never listens: a server, which sets SO_REUSEADDR too, can bind the same port.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(("127.0.0.1", 0))
            self.ports[name] = int(reserved.getsockname()[1])

    def release(self) -> None:
        """Give its ports back: it is not started again."""
        while self._reserved:
            self._reserved.pop().close()

    def start(self, child: Child, environment: Mapping[str, str], mark: str) -> None:
        """Start it, or start it anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        ended = self.exit()
        self.before = (ended, self.result()) if ended else None
        for name in ("exit.json", "result.json"):
            (self.folder / name).unlink(missing_ok=True)
        env = {**environment, MARK: mark, "IXT_INDEX": str(self.index)}
        env["IXT_RESULT"] = str(self.folder / "result.json")
        env |= {f"IXT_PORT_{name.upper()}": str(port) for name, port in self.ports.items()}
        spec = {
            "argv": [_expanded(argument, env) for argument in child.argv],
            "env": env,
            "log": str(self.log),
            "exit": str(self.folder / "exit.json"),
            "grace": child.grace_seconds,
            "parent": os.getpid(),
        }
        self.started_at = time.time()
        self.first_started_at = self.first_started_at or self.started_at
        self.stopping = self.cleared = False
        self.ready_since = self._exit = None
        # The supervisor inherits this: a signal that comes before it handles signals waits for it.
        stops = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
        try:
            self.popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR), child.name],
                stdin=subprocess.PIPE,
                start_new_session=True,
                env={MARK: mark},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self.popen.stdin is not None
        # Through a pipe and never on disk: the environment may hold credentials.
        with suppress(BrokenPipeError), self.popen.stdin as pipe:
            pipe.write(json.dumps(spec).encode())

    def stop(self) -> None:
        """Tell it to stop; the supervisor kills it after its grace."""
        if self.alive and self.popen and not self.stopping:
            self.stopping = True
            self.popen.send_signal(signal.SIGTERM)

    def hurry(self) -> None:
        """End it without its grace, if it was told to stop."""
        if self.alive and self.popen and self.stopping:
            self.popen.send_signal(signal.SIGINT)

    def exit(self) -> Ended | None:
        """How it ended, once it has and unless its supervisor was killed."""
        if self._exit is None:
            try:
                found = json.loads((self.folder / "exit.json").read_text())
                self._exit = Ended(found["exitCode"], found["endedAt"], found["reason"])
            except (FileNotFoundError, ValueError, KeyError):  # cut short when the machine went down
                return None
        return self._exit

    def result(self) -> Result | None:
        """Its result, if it left one that can be read."""
        try:
            return read_known(Result, (self.folder / "result.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def last_log(self) -> str:
        """The last lines of its log."""
        try:
            with self.log.open("rb") as file:
                start = max(0, file.seek(0, os.SEEK_END) - LAST_LOG_BYTES)
                file.seek(start)
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        whole = lines[1:] if start and len(lines) > 1 else lines  # the first one lacks its beginning
        return "\n".join(whole[-LAST_LOG_LINES:])


def environment_of(child: Child) -> dict[str, str]:
    """The parent's environment and the child's own. Raises LocalError for a secret that is not set."""
    found = {name: value for name, value in os.environ.items() if not _OF_ONE_CHILD.fullmatch(name)}
    found |= child.patched_env
    found |= child.env
    for name, (secret, key) in child.secret_env.items():
        if name not in os.environ:
            raise LocalError(
                f"{name} is not set in the environment, where {child.node} needs it: it stands for key {key} "
                f"of Secret {secret}; `export {name}=…`, then run again"
            )
    return found | {"IXT_HOST": "127.0.0.1", "PYTHONUNBUFFERED": "1"}


def check_credentials(secrets: Iterable[str]) -> None:
    """Raise LocalError for a place's own Secret of which no entry is in this program's environment."""
    for secret in secrets:
        prefix = prefix_of(secret)
        if not any(name.startswith(prefix) for name in os.environ):
            raise LocalError(
                f"nothing of Secret {secret} is set in the environment: `export` its entries, for s3:// "
                f"{prefix}AWS_ACCESS_KEY_ID and {prefix}AWS_SECRET_ACCESS_KEY, for gs:// "
                f"{prefix}GOOGLE_SERVICE_ACCOUNT_KEY, for hf:// {prefix}HF_TOKEN, for a tracker "
                f"{prefix}WANDB_API_KEY or {prefix}MLFLOW_TRACKING_TOKEN, then run again"
            )


def _expanded(argument: str, env: Mapping[str, str]) -> str:
    """An argument with $(NAME) replaced as Kubernetes does in a container's command: unknown names stay.
    `python` is the interpreter of this program."""
    if argument == "python":
        return sys.executable
    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", lambda match: env.get(match[1], match[0]), argument)
