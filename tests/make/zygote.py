"""Programs that tests start by the hundreds, loaded once and forked: `ixt`, its tools, the stub of all steps.

To import them takes half a second of a processor each time, to fork what has imported them some milliseconds.
What is forked is the program from its `main` on, with the folder, environment and files of whoever asks; what
is not proven with it is that a program can be read by a new interpreter: `Desk.program` starts real ones.

A forked process lives no longer than who asked for it: it holds one end of a pipe of which that one has the
other, and the kernel sends it SIGKILL when that is closed.

The server is a program itself, `python -P -m make.zygote SOCKET`, and ends with its standard input. It is
asked through the socket: 8 bytes of length, then words with a zero between them: change and signal of a
countdown, number of arguments with the name of the program, folder, name, arguments, entries of the
environment; with it standard input, output, error and the pipe. It answers with pid and, when that has ended,
exit code, in 8 bytes each.
"""

import fcntl
import gc
import importlib
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from make.processes import PATIENCE_SECONDS, kill, marked

FORKED = Path(__file__).with_name("forked.py")
FILES = 4
"""Descriptors that come with a question."""
LOADED = (
    "ixt_operator.cli.ixt",
    "ixt_operator.cli.main",
    "ixt_operator.cli.comparing",
    "ixt_operator.cli.evaluating",
    "ixt_operator.cli.explain",
    "ixt_operator.cli.first",
    "ixt_operator.cli.opening",
    "ixt_operator.cli.printing",
    "ixt_operator.generate.crd",
    "ixt_operator.render.preview",
    "ixt_operator.adapters.local.loop",
    "ixt_operator.cli.scraped",
    "ixt_operator.cli.view",
    "ixt_workloads.tools",
    "make.stub",
    "rich.live",
    "rich.markdown",
    "typer.rich_utils",
)
"""What is imported before anything is forked."""
PROGRAMS = {"ixt": "ixt_operator.cli.main", "tools": "ixt_workloads.tools", "stub": "make.stub"}
"""Modules by the names of their programs: each has a `main`."""


class Done(NamedTuple):
    """How a program ended."""

    code: int
    """Negative: the signal that killed it."""
    out: str
    err: str


class Zygote:
    """A running server, as a test sees it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def command(self, program: str) -> tuple[str, ...]:
        """A command that is the program, for whoever starts processes; `python` is the interpreter."""
        return ("python", "-I", "-S", str(FORKED), str(self.place), program)

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        at: int = 0,
        how: int | str = signal.SIGKILL,
    ) -> Done:
        """Run a program to its end, or until it is killed.

        With `at` it gets a signal just before its `at`-th change of a file below the folder or start of a
        process, or just after such a start. `how` is the signal's number; negative: that signal again at
        every further change; "all": SIGKILL for all that it started, then for itself.
        """
        words = [str(at), str(how), str(len(arguments) + 1), str(folder), program, *arguments]
        asked = "\0".join([*words, *(f"{name}={value}" for name, value in env.items())]).encode()
        held, lifeline = os.pipe()
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as err,
            Path(os.devnull).open("rb") as nothing,
            os.fdopen(held, "rb") as held_file,
            os.fdopen(lifeline, "wb"),
            socket.socket(socket.AF_UNIX) as connection,
        ):
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(str(self.place))
            files = [file.fileno() for file in (nothing, out, err, held_file)]
            socket.send_fds(connection, [len(asked).to_bytes(8, "big") + asked], files)
            _read(connection, 8)
            code = int.from_bytes(_read(connection, 8), "big", signed=True)
            for file in (out, err):
                file.seek(0)
            return Done(code, out.read(), err.read())


@contextmanager
def zygote(folder: Path) -> Iterator[Zygote]:
    """A server whose socket is in the folder, while inside."""
    place = folder / "zygote"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    command = [sys.executable, "-P", "-m", "make.zygote", str(place)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env) as server:
        assert server.stdout
        assert server.stdout.readline() == b"loaded\n"
        yield Zygote(place)
        assert server.stdin
        server.stdin.close()


# --- The server.


class Countdown:
    """Does to this process what was asked for, at the moment that was asked for."""

    CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"})
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def __init__(self, folder: str, at: int, how: str) -> None:
        self.folder = folder
        self.left = at
        self.how = how

    def start(self) -> None:
        """Count from here on."""
        start = subprocess.Popen.__init__

        def started(*given: Any, **options: Any) -> None:
            start(*given, **options)
            self.step()

        subprocess.Popen.__init__ = started
        sys.addaudithook(self.watch)

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        below = bool(arguments) and str(arguments[0]).startswith(self.folder)
        changes = event in self.CHANGES or (event == "open" and arguments[2] & self.WRITING)
        if (below and changes) or event == "subprocess.Popen":
            self.step()

    def step(self) -> None:
        self.left -= 1
        if self.how == "all":
            if self.left == 0:
                for pid in marked(Path(self.folder, ".ixt", "test")):
                    kill(pid)
                os.kill(os.getpid(), signal.SIGKILL)
        elif self.left == 0 or (self.left < 0 and int(self.how) < 0):
            os.kill(os.getpid(), abs(int(self.how)))


def serve(place: str) -> None:
    """Fork for everybody who asks, until standard input ends."""
    mains = load(place)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen(128)
    print("loaded", flush=True)
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    asking: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is listening:
                connection = listening.accept()[0]
                with suppress(OSError):  # killed before it had asked
                    pid = fork(connection, mains)
                    handle = os.pidfd_open(pid)
                    asking[handle] = pid, connection
                    waiting.register(handle, selectors.EVENT_READ)
                    connection.sendall(pid.to_bytes(8, "big"))
                continue
            waiting.unregister(key.fd)
            pid, connection = asking.pop(key.fd)
            os.close(key.fd)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with suppress(OSError), connection:
                connection.sendall(code.to_bytes(8, "big", signed=True))


def load(place: str) -> dict[str, Any]:
    """Import everything, and build what would be built at its first use; the programs' functions by name."""
    for name in LOADED:
        importlib.import_module(name)
    from ixt_operator.api.run import IXTRun
    from ixt_operator.api.runtime import IXTRuntime
    from ixt_operator.api.status import RunStatus
    from ixt_operator.cli import artifacts
    from ixt_operator.planner.child import Child
    from ixt_workloads.contract.graph import Task
    from ixt_workloads.contract.results import Result

    for model in (IXTRun, IXTRuntime, RunStatus, Child, Task, Result):
        model.model_rebuild()
    artifacts.TOOLS = (sys.executable, *Zygote(Path(place)).command("tools")[1:])
    gc.collect()
    gc.freeze()
    return {name: importlib.import_module(module).main for name, module in PROGRAMS.items()}


def fork(connection: socket.socket, mains: Mapping[str, Any]) -> int:
    """Fork what a connection asks for. Raises OSError when it is gone."""
    start, files, _, _ = socket.recv_fds(connection, 8, FILES, socket.MSG_CMSG_CLOEXEC)
    if len(start) < 8:
        raise BrokenPipeError
    asked = _read(connection, int.from_bytes(start, "big"))
    pid = os.fork()
    if pid == 0:
        become(asked.decode().split("\0"), files, mains)
    for descriptor in files:
        os.close(descriptor)
    return pid


def become(asked: list[str], files: Sequence[int], mains: Mapping[str, Any]) -> None:
    """Be a program, to its end."""
    code = 1
    try:
        at, how, number, folder, program, *rest = asked
        arguments, environment = rest[: int(number) - 1], rest[int(number) - 1 :]
        die_with(files[3])
        for descriptor in range(3):
            os.dup2(files[descriptor], descriptor)
            os.close(files[descriptor])
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(entry.split("=", 1) for entry in environment)
        each_line = os.isatty(1) or "PYTHONUNBUFFERED" in os.environ
        sys.stdout = os.fdopen(1, "w", buffering=1 if each_line else -1, encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(
            2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        sys.argv = [program, *arguments]
        if int(at):
            Countdown(folder, int(at), how).start()
        code = mains[program]() or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    for file in (sys.stdout, sys.stderr):
        with suppress(OSError):
            file.flush()
    os._exit(code)


def die_with(held: int) -> None:
    """Have the kernel send SIGKILL when the other end of a pipe is closed."""
    fcntl.fcntl(held, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(held, fcntl.F_SETFL, fcntl.fcntl(held, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([held], [], [], 0)[0]:
        os._exit(128 + signal.SIGKILL)


def _read(connection: socket.socket, size: int) -> bytes:
    """So many bytes. Raises OSError when there are fewer."""
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise BrokenPipeError
        found += more
    return found


if __name__ == "__main__":
    serve(sys.argv[1])
