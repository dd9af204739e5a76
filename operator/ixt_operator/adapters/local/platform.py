"""LocalPlatform: children as processes of this machine, with their state on disk.

State: <workdir>/children/<name>/{child.json, task.json, <index>/…}, logs in <workdir>/logs. A platform that
is opened on the workdir of a dead one first ends what that left running, then observes its children as ended.
"""

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import ValidationError

from ixt_operator.adapters.local import ask
from ixt_operator.adapters.local.leftovers import kill_left
from ixt_operator.adapters.local.machine import held
from ixt_operator.adapters.local.process import Process, environment_of
from ixt_operator.adapters.local.workdir import LocalError, write
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_workloads.contract.exits import Fault, PlatformReason, meaning_of
from ixt_workloads.contract.versions import write_task

LONGEST_BACKOFF_SECONDS = 30.0


class _Group:
    """A child and its processes."""

    def __init__(self, child: Child, folder: Path, logs: Path, created_at: float) -> None:
        self.child = child
        self.folder = folder
        self.created_at = created_at
        self.processes = [self.process(logs, index) for index in range(child.indexes)]

    def process(self, logs: Path, index: int) -> Process:
        """The process of an index."""
        log = logs / f"{self.child.name}-{index}.log"
        return Process(folder=self.folder / str(index), log=log, index=index)


class LocalPlatform:
    """Platform on this machine. Use `open`."""

    def __init__(self, workdir: Path, http: aiohttp.ClientSession) -> None:
        self._workdir = workdir
        self._logs = workdir / "logs"
        self._http = http
        self._groups: dict[str, _Group] = {}
        self._changed = asyncio.Event()
        self._hurried = False
        self._api_key = secrets.token_urlsafe(32)
        """Of the run's servers: none of them outlives this platform, and other users of this machine reach
        their ports."""

    @classmethod
    @asynccontextmanager
    async def open(cls, workdir: Path) -> "AsyncIterator[LocalPlatform]":
        """The only platform of a workdir. What it started is ended when the context is left.

        Raises LocalError while another process has it open.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        workdir = workdir.resolve()
        with (workdir / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip()
                stop = f"stop it with `kill {holder}`, " if holder else ""
                raise LocalError(
                    f"{workdir} is in use by process {holder or 'unknown'}: wait until it ends, {stop}"
                    "or choose another --workdir"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            async with ask.session() as http:
                platform = cls(workdir, http)
                platform._load()
                platform._kill_left()
                try:
                    yield platform
                finally:
                    await platform.close()

    async def observe(self) -> Observed:
        """All children. Servers that ended are started anew, and what is left of failed children is
        stopped."""
        for group in self._groups.values():
            self._tend(group)
        groups = self._groups.values()
        states = await asyncio.gather(*(self._child_state(group) for group in groups))
        return Observed(children={state.name: state for state in states})

    async def create(self, child: Child) -> None:
        """Start a child's processes, unless there is a child of that name."""
        if child.name in self._groups:
            return
        environment_of(child)  # raises for a missing secret before anything is on disk
        folder = self._workdir / "children" / child.name
        folder.mkdir(parents=True, exist_ok=True)
        group = _Group(child, folder, self._logs, time.time())
        write(folder / "task.json", write_task(child.task) if child.task else "{}")
        # The child's own file comes last: a folder without it is no child yet.
        record = {"child": child.model_dump(mode="json"), "createdAt": group.created_at}
        write(folder / "child.json", json.dumps(record))
        self._groups[child.name] = group
        for process in group.processes:
            process.reserve(child.ports)
        for process in group.processes:
            self._start(group, process)

    async def delete(self, name: str) -> None:
        """Stop a child's processes within their grace and forget it; its logs stay."""
        group = self._groups.get(name)
        if group is None:
            return
        await self._stop(group.processes)
        kill_left(f"{self._workdir}|{name}|", [process.log for process in group.processes])
        self._groups.pop(name, None)
        shutil.rmtree(group.folder, ignore_errors=True)

    async def scale(self, child: Child) -> None:
        """Start more processes of a server, or end the last ones."""
        group = self._groups.get(child.name)
        if group is None:
            return
        group.child = child
        for index in range(len(group.processes), child.indexes):
            process = group.process(self._logs, index)
            group.processes.append(process)
            process.reserve(child.ports)
            self._start(group, process)
        await self._stop(group.processes[child.indexes :])
        group.processes = group.processes[: child.indexes]

    async def wait_changed(self, timeout: float) -> None:
        """Until a process ends, or the timeout in seconds is over."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return
        self._changed.clear()

    def wake(self) -> None:
        """Make `wait_changed` return."""
        self._changed.set()

    def hurry(self) -> None:
        """Kill at once what was told to stop, and what will be."""
        self._hurried = True
        for group in self._groups.values():
            for process in group.processes:
                process.hurry()

    async def close(self) -> None:
        """End all processes, servers last, since others still talk to them."""
        for servers in (False, True):
            groups = [group for group in self._groups.values() if group.child.server is servers]
            await self._stop([process for group in groups for process in group.processes])
        self._kill_left()

    def _kill_left(self) -> None:
        """End the processes that outlived their supervisors."""
        logs = [process.log for group in self._groups.values() for process in group.processes]
        kill_left(f"{self._workdir}|", logs)

    def _load(self) -> None:
        """Read the children of an earlier platform; those that it had not made completely are removed."""
        folders = self._workdir / "children"
        for folder in sorted(folders.iterdir()) if folders.exists() else ():
            try:
                record = json.loads((folder / "child.json").read_text())
                child = Child.model_validate(record["child"])
            except (OSError, ValueError, KeyError, ValidationError):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            self._groups[child.name] = _Group(child, folder, self._logs, record["createdAt"])

    def _mark(self, group: _Group, process: Process) -> str:
        return f"{self._workdir}|{group.child.name}|{process.index}|"

    def _start(self, group: _Group, process: Process) -> None:
        child = group.child
        env = environment_of(child) | {"IXT_TASK": str(group.folder / "task.json")}
        if "rendezvous" in child.ports:
            env["IXT_LEADER"] = f"127.0.0.1:{group.processes[0].ports['rendezvous']}"
        for name, server in child.servers.items():
            found = self._groups.get(server)
            ports = [peer.ports["http"] for peer in found.processes] if found else []
            env[f"IXT_{name}_URLS"] = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        env |= dict.fromkeys(child.api_keys, self._api_key)
        process.start(child, env, self._mark(group, process))
        self._watch(process, server=child.server)

    def _watch(self, process: Process, *, server: bool) -> None:
        """Make `wait_changed` return when the process ends. A server keeps its ports for its next start."""

        def ended() -> None:
            if not server:
                process.release()
            self._changed.set()

        if process.popen is None:
            return
        try:
            descriptor = os.pidfd_open(process.popen.pid)
        except ProcessLookupError:
            ended()
            return
        loop = asyncio.get_running_loop()

        def readable() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            ended()

        loop.add_reader(descriptor, readable)

    def _tend(self, group: _Group) -> None:
        """Do what Kubernetes' controllers do. A server's process that ended is started anew, later each time,
        unless a person must mend something first. When a process of another child failed, its others are
        stopped, as in a Job with backoffLimit 0."""
        now = time.time()
        for process in group.processes:
            if process.lost:
                kill_left(self._mark(group, process), [process.log])
                process.cleared = True
        if not group.child.server:
            if any(_failed(process) for process in group.processes):
                for process in group.processes:
                    process.stop()
            return
        for process in group.processes:
            if process.reason or process.lost:  # since just now
                continue
            alive, ended = process.alive, process.exit()
            if alive:
                if not process.ever_ready and now - process.first_started_at > group.child.ready_seconds:
                    process.reason = PlatformReason.NEVER_READY
                    process.stop()
            elif process.popen is not None and not process.stopping:
                wait = min(2.0**process.restarts, LONGEST_BACKOFF_SECONDS)
                mendable = ended is None or meaning_of(ended.code).fault is not Fault.USER
                if mendable and now - (ended.at if ended else process.started_at) >= wait:
                    process.restarts += 1
                    self._start(group, process)

    async def _child_state(self, group: _Group) -> ChildState:
        processes = await asyncio.gather(*(self._state(group, process) for process in group.processes))
        child = group.child
        return ChildState(
            **child.fields_of_node(),
            name=child.name,
            key=child.key,
            attempt=child.attempt,
            created_at=group.created_at,
            processes=tuple(processes),
        )

    async def _state(self, group: _Group, process: Process) -> ProcessState:
        # A lost process has ended only when all that it left was killed.
        lives = process.alive or process.lost
        ended = process.exit()
        common: dict[str, Any] = {
            "index": process.index,
            "where": f"index {process.index}" if group.child.indexes > 1 else "",
            "log": str(process.log),
            "restarts": process.restarts,
            # Of one that an earlier platform started, only its child's begin is known.
            "held_since": process.started_at or group.created_at,
            "up_since": None if group.child.server else process.started_at or group.created_at,
            **held(group.child),
        }
        if lives and not process.reason:
            return await self._live_state(group.child, process, common)
        if group.child.server:
            common["held_since"] = None
        # Without an exit the supervisor itself was killed, or the machine went down.
        code, at, why = ended or (None, process.started_at, PlatformReason.LOST)
        reason, result = process.reason or why, process.result()
        if code == 0 and not group.child.server:
            if result:
                succeeded = ProcessPhase.SUCCEEDED
                return ProcessState(**common, phase=succeeded, exit_code=0, ended_at=at, result=result)
            reason = PlatformReason.NO_RESULT
        return ProcessState(
            **common,
            phase=ProcessPhase.FAILED,
            exit_code=code,
            reason=reason,
            ended_at=at,
            result=result,
            last_log=process.last_log(),
        )

    async def _live_state(self, child: Child, process: Process, common: dict[str, Any]) -> ProcessState:
        if child.server:
            ready = child.ready_path is None or await ask.ready(
                self._http, process.ports["http"], child.ready_path
            )
            process.ever_ready |= ready
            process.ready_since = (process.ready_since or time.time()) if ready else None
            common["up_since"] = process.ready_since
            if ready:
                return ProcessState(**common, phase=ProcessPhase.READY)
            # For a process that was started anew, people want to know why.
            common["last_log"] = process.last_log() if process.restarts else ""
            if process.before:
                ended, result = process.before
                common |= {"exit_code": ended.code, "reason": ended.reason, "result": result}
            return ProcessState(**common, phase=ProcessPhase.RUNNING)
        port = process.ports.get("progress")
        progress = await ask.progress(self._http, port) if port else None
        return ProcessState(**common, phase=ProcessPhase.RUNNING, progress=progress)

    async def _stop(self, processes: Collection[Process]) -> None:
        """End processes, each within its grace."""
        for process in processes:
            process.stop()
            if self._hurried:
                process.hurry()
        while any(process.alive for process in processes):
            await self.wait_changed(0.1)
        for process in processes:
            process.release()


def _failed(process: Process) -> bool:
    alive, ended = process.alive, process.exit()
    return ended.code != 0 if ended else not alive
