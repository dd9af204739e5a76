"""Namespaces and cgroups that end together: what a node lives in, and how nothing of it is left behind.

Pid 1 of the sandbox is `conf/init.sh`. When it ends the kernel ends every process inside, and mounts, network
and devices go with them. What the kernel does not take back (cgroups, one route, a folder) is written down in
STATE before it is made; `sweep` removes it after whoever made it is gone.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from cluster import cgroups

STATE = Path("/run/ixt-test")
CONF = Path(__file__).parent / "conf"
NUMBERS = range(16)
PATIENCE_SECONDS = 15


class SandboxError(RuntimeError):
    """The machine does not allow what a sandbox needs, or has one already; the message says which."""


@dataclass(frozen=True)
class Network:
    """Addresses of one sandbox: a /20 of 10.99.0.0/16, so that 16 fit beside each other."""

    number: int

    @property
    def all(self) -> IPv4Network:
        """Everything; the machine routes it to the node."""
        return IPv4Network((0x0A630000 + (self.number << 12), 20))

    @property
    def host(self) -> str:
        """The machine as the node sees it."""
        return str(self.all[1])

    @property
    def node(self) -> str:
        """The node as the machine sees it."""
        return str(self.all[2])

    @property
    def services(self) -> IPv4Network:
        """Services' addresses."""
        return IPv4Network((self.all[1024], 22))

    @property
    def pods(self) -> IPv4Network:
        """Pods' addresses."""
        return IPv4Network((self.all[2048], 24))

    @property
    def device(self) -> str:
        """The machine's end of the cable."""
        return f"ixt-test-{self.number}"


@dataclass(frozen=True)
class Record:
    """What a sandbox left on the machine."""

    number: int
    folder: str
    cgroups: tuple[str, ...]
    launcher: int = 0
    """Process whose only child is pid 1 of the sandbox; 0 before it was started."""
    launched: str = ""
    """When that was, so that no other process is ever taken for it."""

    @property
    def file(self) -> Path:
        """Where it is written down."""
        return STATE / f"{self.number}.json"

    def write(self) -> None:
        """Write it down."""
        STATE.mkdir(mode=0o700, exist_ok=True)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.rename(self.file)

    @classmethod
    def read(cls, number: int) -> "Record | None":
        """What was written down, if anything."""
        try:
            return cls(**json.loads((STATE / f"{number}.json").read_text()))
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Sandbox:
    """A living sandbox."""

    number: int
    folder: Path
    init: int
    """Its pid 1, as this machine counts."""
    launcher: "subprocess.Popen[bytes] | None" = None
    """The process that pid 1 is the child of, if this process started it."""

    @property
    def network(self) -> "Network":
        """Its addresses."""
        return Network(self.number)

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command inside, as the only child of the process that it starts."""
        enter = ["nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--cgroup", "--uts", "--"]
        return [*enter, "/bin/bash", str(CONF / "enter.sh"), str(self.folder), *command]

    def run(self, *command: str) -> str:
        """Run a command inside to its end. Raises SandboxError with what it wrote."""
        return _run(*self.command(*command))


def open_sandbox(number: int | None, hostname: str, *, outlives_owner: bool) -> Sandbox:
    """A new sandbox with a folder of its own: of that number, or of the first that is free but 0.

    Unless it outlives its owner, it dies with this process. Raises SandboxError.
    """
    if os.geteuid() != 0:
        raise SandboxError("a node needs root: it makes namespaces and cgroups")
    sweep()
    for candidate in NUMBERS[1:] if number is None else (number,):
        with _lock(candidate) as lock:
            if lock is not None:
                return _made(candidate, hostname, lock, outlives_owner)
    taken = "all numbers are" if number is None else f"number {number} is"
    raise SandboxError(f"{taken} taken by running clusters, see {STATE}: make cluster-down ends number 0")


def close_sandbox(number: int) -> bool:
    """End a sandbox, whoever made it, and remove what is left of it. False when there was none."""
    record = Record.read(number)
    if record is None:
        return False
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with _lock(number) as lock:
            if lock is not None:
                _remove(record)
                return True
        if record.launcher and _started(record.launcher) == record.launched:
            kill(child(record.launcher) or record.launcher)
        if time.monotonic() > deadline:
            raise SandboxError(f"cluster {number} does not end, see {record.file}")
        time.sleep(0.02)


def sweep() -> None:
    """Remove what dead sandboxes left."""
    for number in NUMBERS:
        with _lock(number) as lock:
            if lock is not None and (record := Record.read(number)):
                _remove(record)


def living(number: int) -> Sandbox | None:
    """The sandbox of a number, if it runs."""
    record = Record.read(number)
    init = child(record.launcher) if record else 0
    with _lock(number) as lock:
        return Sandbox(number, Path(record.folder), init) if record and init and lock is None else None


@contextmanager
def _lock(number: int) -> Iterator[socket.socket | None]:
    """A number's lock, None when somebody has it: held by this process or whom it is handed on to, until
    the last of them ends. An abstract socket leaves no file."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0ixt-test-{number}")
        except OSError:
            yield None
        else:
            yield lock


def _made(number: int, hostname: str, lock: socket.socket, outlives_owner: bool) -> Sandbox:
    folder = Path(tempfile.mkdtemp(prefix="ixt-node-"))
    record = Record(number, str(folder), tuple(str(cgroup) for cgroup in cgroups.own(f"ixt-test-{number}")))
    record.write()
    try:
        _run("ip", "route", "replace", "unreachable", str(Network(number).all), "metric", "4000")
        for cgroup in record.cgroups:
            cgroups.make(Path(cgroup))
        launcher = _launch(record, hostname, lock, outlives_owner)
        record = replace(record, launcher=launcher.pid, launched=_started(launcher.pid))
        record.write()
        assert launcher.stdin
        launcher.stdin.write(b"go\n")
        launcher.stdin.close()
        _until_ready(launcher, folder)
        sandbox = Sandbox(number, folder, child(launcher.pid), launcher)
        for cgroup in record.cgroups:
            cgroups.share_controllers(Path(cgroup))
        _connect(sandbox)
    except BaseException:
        lock.close()
        close_sandbox(number)
        raise
    return sandbox


def _launch(
    record: Record, hostname: str, lock: socket.socket, outlives_owner: bool
) -> "subprocess.Popen[bytes]":
    die_with_owner = [] if outlives_owner else ["setpriv", "--pdeathsig", "KILL"]
    arguments = [str(CONF / "init.sh"), record.folder, hostname, *record.cgroups]
    with Path(record.folder, "sandbox.log").open("wb") as log:
        return subprocess.Popen(
            [*die_with_owner, "/bin/bash", str(CONF / "launch.sh"), *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )


def _until_ready(launcher: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (folder / "ready").exists():
        if launcher.poll() is not None or time.monotonic() > deadline:
            raise SandboxError(f"no namespaces: {(folder / 'sandbox.log').read_text().strip()}")
        time.sleep(0.01)


def _connect(sandbox: Sandbox) -> None:
    """A cable between machine and node, and the routes that use it.

    The unreachable route, made before, stays behind them: should the cable vanish, packets die here.
    """
    net, device = sandbox.network, sandbox.network.device
    _run("ip", "link", "add", device, "type", "veth", "peer", "name", "uplink", "netns", str(sandbox.init))
    _run("ip", "addr", "add", f"{net.host}/30", "dev", device)
    _run("ip", "link", "set", device, "up")
    _run("ip", "route", "add", str(net.all), "via", net.node, "dev", device)
    sandbox.run("/bin/bash", str(CONF / "network.sh"), f"{net.node}/30", str(net.services), str(net.pods))


def _remove(record: Record) -> None:
    """Remove what a dead sandbox left. Its last processes may be dying still."""
    for cgroup in record.cgroups:
        if not cgroups.remove(Path(cgroup), PATIENCE_SECONDS):
            raise SandboxError(f"cgroup {cgroup} cannot be removed: processes are in it still")
    net = Network(record.number)
    with suppress(SandboxError):
        _run("ip", "link", "del", net.device)
    with suppress(SandboxError):
        _run("ip", "route", "del", "unreachable", str(net.all), "metric", "4000")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    if any(line.split()[4].startswith(record.folder) for line in mounts):
        raise SandboxError(f"something is mounted below {record.folder}: umount it")
    shutil.rmtree(record.folder, ignore_errors=True)
    record.file.unlink(missing_ok=True)
    with suppress(OSError):
        STATE.rmdir()


def child(pid: int) -> int:
    """The only child of a process, 0 if there is none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0


def _started(pid: int) -> str:
    """When a process started, in ticks since boot; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def kill(pid: int) -> None:
    """SIGKILL, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
