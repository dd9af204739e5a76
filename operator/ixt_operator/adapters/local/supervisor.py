"""Runs one process and leaves nothing behind: `python -I -S supervisor.py NAME < SPEC`.

It is a program of the standard library only, so that it starts in milliseconds. The kernel tells it when `ixt
run` dies (PR_SET_PDEATHSIG) and makes it the parent of its orphaned descendants (PR_SET_CHILD_SUBREAPER), so
that engines that fork end with the process that started them. NAME is for people who look at `ps`. SPEC is
JSON {argv, env, log, exit, grace, parent}; how the process ended is written to the file `exit` as JSON
{exitCode, endedAt, reason}, in one step.
"""

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.02
HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Run the process of a spec to its end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        spec = json.loads(sys.stdin.read())
    except ValueError:
        return  # `ixt run` died before it had said what to run
    _log_to(spec["log"])
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != spec["parent"]:
        _write(spec["exit"], -signal.SIGTERM)
        return
    before = _oom_kills()
    pid = _start(spec)
    code = _wait(pid, float(spec["grace"]))
    # The kernel does not say which process it killed for want of memory: SIGKILL and its counter tell.
    out_of_memory = code == -signal.SIGKILL and _oom_kills() > before
    _kill_descendants()
    _write(spec["exit"], code, "OOMKilled" if out_of_memory else "")


def _log_to(log: str) -> None:
    """Send this program's own output to the log as well: the terminal is `ixt run`'s."""
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # a full disk, say
        file = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)


def _start(spec: dict[str, Any]) -> int:
    """Fork and exec; an exec that fails exits 127 with a line in the log."""
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(127)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them, what it runs should not
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except BaseException as error:
        os.write(2, f"{spec['argv'][0]} cannot be started: {error}\n".encode())
    os._exit(127)


def _wait(pid: int, grace: float) -> int:
    """Wait for the process; its exit code, negative for a signal.

    When this program gets SIGTERM, the process does too, and SIGKILL after the grace. SIGINT ends the grace:
    it is another signal because two of one kind can arrive as one.
    """
    deadline = None
    while True:
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return -signal.SIGKILL
            if ended == pid:
                return os.waitstatus_to_exitcode(status)
            if not ended:
                break
        timeout = 1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        got = signal.sigtimedwait(HEARD, timeout)
        if got and got.si_signo != signal.SIGCHLD:
            if got.si_signo == signal.SIGINT:
                deadline = time.monotonic()
            elif deadline is None:
                os.kill(pid, signal.SIGTERM)
                deadline = time.monotonic() + grace
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + 1.0


def _kill_descendants() -> None:
    """Kill and reap all that is left; orphans keep turning up as our children until none is left."""
    while True:
        for pid in _children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(POLL_SECONDS)


def _children() -> list[int]:
    """Every descendant, from /proc."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    found: set[int] = {os.getpid()}
    grown = True
    while grown:
        new = {pid for pid, parent in parents.items() if parent in found} - found
        found |= new
        grown = bool(new)
    return sorted(found - {os.getpid()})


def _oom_kills() -> int:
    """Processes of this machine that were killed for want of memory since it was started."""
    with open("/proc/vmstat") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)


def _write(path: str, code: int, reason: str = "") -> None:
    text = json.dumps({"exitCode": code, "endedAt": time.time(), "reason": reason})
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)


if __name__ == "__main__":
    main()
