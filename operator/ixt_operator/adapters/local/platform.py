"""LocalPlatform: children as processes of this machine, with their state on disk.

State: <workdir>/children/<name>/{child.json, task.json, <index>/…}, logs in <workdir>/logs. A platform that
is opened on the workdir of a dead one first ends what that left running, then sees its children as ended.
"""

import asyncio
import fcntl
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import ValidationError

from ixt_operator.adapters.local.errors import LocalError
from ixt_operator.adapters.local.leftovers import kill_marked
from ixt_operator.adapters.local.process import Process, environment_of, free_port
from ixt_operator.plan.child import Child, ChildKind
from ixt_operator.plan.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_workloads.contract.exits import Fault, fault_of
from ixt_workloads.contract.results import Progress

ASK_SECONDS = 0.5
"""A process that does not answer this fast is asked again at the next look."""
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

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._logs = workdir / "logs"
        self._groups: dict[str, _Group] = {}
        self._changed = asyncio.Event()
        self._http: aiohttp.ClientSession | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, workdir: Path) -> "AsyncIterator[LocalPlatform]":
        """The platform of a workdir, alone; everything it started is ended when it is left.

        Raises LocalError while another process has it open.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        with (workdir / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise LocalError(
                    f"{workdir} is in use by process {holder}: wait for it, or choose another --workdir"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            kill_marked(f"{workdir}|")
            platform = cls(workdir)
            platform._load()
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS)) as session:
                platform._http = session
                try:
                    yield platform
                finally:
                    await platform.close()

    async def observe(self) -> Observed:
        """All children, restarting servers that ended and stopping what is left of failed Tasks."""
        for group in self._groups.values():
            self._tend(group)
        groups = list(self._groups.values())
        states = await asyncio.gather(
            *(self._state(group, process) for group in groups for process in group.processes)
        )
        by_name: dict[str, list[ProcessState]] = {group.child.name: [] for group in groups}
        for name, state in states:
            by_name[name].append(state)
        return Observed(
            children={
                group.child.name: ChildState(
                    name=group.child.name,
                    node=group.child.node,
                    key=group.child.key,
                    attempt=group.child.attempt,
                    created_at=group.created_at,
                    processes=tuple(by_name[group.child.name]),
                )
                for group in groups
            }
        )

    async def create(self, child: Child) -> None:
        """Start a child's processes, unless there is a child of that name."""
        if child.name in self._groups:
            return
        folder = self._workdir / "children" / child.name
        folder.mkdir(parents=True, exist_ok=True)
        group = _Group(child, folder, self._logs, time.time())
        for process in group.processes:
            process.ports = {name: free_port() for name in child.ports}
        environment_of(child, child.overrides)
        _write(folder / "task.json", child.task.model_dump_json() if child.task else "{}")
        # The child's own file comes last: a folder without it is no child yet.
        record = {"child": child.model_dump(mode="json"), "createdAt": group.created_at}
        _write(folder / "child.json", json.dumps(record))
        self._groups[child.name] = group
        for process in group.processes:
            self._start(group, process)

    async def delete(self, name: str) -> None:
        """Stop a child's processes within their grace and forget it; its logs stay."""
        group = self._groups.get(name)
        if group is None:
            return
        for process in group.processes:
            process.stop()
        await asyncio.gather(*(self._ended(process) for process in group.processes))
        kill_marked(f"{self._workdir}|{name}|")
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
            process.ports = {name: free_port() for name in child.ports}
            group.processes.append(process)
            self._start(group, process)
        surplus = group.processes[child.indexes :]
        group.processes = group.processes[: child.indexes]
        for process in surplus:
            process.stop()
        await asyncio.gather(*(self._ended(process) for process in surplus))

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

    async def close(self) -> None:
        """End all processes in good order, servers last, since others still talk to them."""
        for kind in (ChildKind.TASKS, ChildKind.SERVER):
            processes = [
                process
                for group in self._groups.values()
                if group.child.kind is kind
                for process in group.processes
            ]
            for process in processes:
                process.stop()
            await asyncio.gather(*(self._ended(process) for process in processes))
        kill_marked(f"{self._workdir}|")

    def _load(self) -> None:
        """Children of an earlier owner; what it left behind half made is removed."""
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
        env = environment_of(child, child.overrides) | {"IXT_TASK": str(group.folder / "task.json")}
        if "rendezvous" in child.ports:
            env["IXT_LEADER"] = f"127.0.0.1:{group.processes[0].ports['rendezvous']}"
        for name, server in child.servers.items():
            found = self._groups.get(server)
            ports = [peer.ports["http"] for peer in found.processes] if found else []
            env[f"IXT_{name}_URLS"] = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        process.start(child, env, self._mark(group, process))
        self._watch(process)

    def _watch(self, process: Process) -> None:
        """Wake `wait_changed` when the process ends."""
        if process.popen is None:
            return
        try:
            descriptor = os.pidfd_open(process.popen.pid)
        except ProcessLookupError:
            self._changed.set()
            return
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._changed.set()

        loop.add_reader(descriptor, ended)

    def _tend(self, group: _Group) -> None:
        """What Kubernetes' controllers do: a server that ended starts anew, later each time, unless a person
        must mend it; when one index of Tasks failed, the others are stopped (Job with backoffLimit 0)."""
        now = time.time()
        for process in group.processes:
            if process.popen is not None and not process.alive and process.exit() is None:
                # Its supervisor was killed and could not clear up.
                kill_marked(self._mark(group, process))
        if group.child.kind is ChildKind.TASKS:
            if any(_failed(process) for process in group.processes):
                for process in group.processes:
                    process.stop()
            return
        for process in group.processes:
            if process.reason:
                continue
            ended = process.exit()
            if process.alive:
                if not process.ever_ready and now - group.created_at > group.child.ready_seconds:
                    process.reason = "NeverReady"
                    process.stop()
            elif process.popen is not None and not process.stopping:
                wait = min(2.0**process.restarts, LONGEST_BACKOFF_SECONDS)
                mendable = ended is None or fault_of(ended[0] or 1) is not Fault.USER
                if mendable and now - (ended[1] if ended else process.started_at) >= wait:
                    process.restarts += 1
                    self._start(group, process)

    async def _state(self, group: _Group, process: Process) -> tuple[str, ProcessState]:
        name, ended = group.child.name, process.exit()
        fields: dict[str, Any] = {
            "index": process.index,
            "where": f"{group.child.node}[{process.index}]" if group.child.indexes > 1 else group.child.node,
            "log": str(process.log),
            "restarts": process.restarts,
            "reason": process.reason,
        }
        if process.alive and ended is None and not process.reason:
            phase, progress = ProcessPhase.RUNNING, None
            if group.child.kind is ChildKind.SERVER:
                process.ready = await self._is_ready(group.child, process)
                process.ever_ready |= process.ready
                phase = ProcessPhase.READY if process.ready else phase
            elif "progress" in process.ports:
                progress = await self._progress(process)
            return name, ProcessState(**fields, phase=phase, progress=progress)
        result = process.result()
        if ended is None:
            # The supervisor itself was killed, or the machine went down.
            lost = process.reason or "Lost"
            found = {**fields, "reason": lost, "phase": ProcessPhase.FAILED, "ended_at": process.started_at}
            return name, ProcessState(**found, result=result, last_log=process.last_log())
        code, at = ended
        if code == 0 and not process.reason and group.child.kind is ChildKind.TASKS:
            return name, ProcessState(
                **fields, phase=ProcessPhase.SUCCEEDED, exit_code=0, ended_at=at, result=result
            )
        return name, ProcessState(
            **fields,
            phase=ProcessPhase.FAILED,
            exit_code=code,
            ended_at=at,
            result=result,
            last_log=process.last_log(),
        )

    async def _is_ready(self, child: Child, process: Process) -> bool:
        if child.ready_path is None or self._http is None:
            return True
        try:
            async with self._http.get(
                f"http://127.0.0.1:{process.ports['http']}{child.ready_path}"
            ) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _progress(self, process: Process) -> Progress | None:
        if self._http is None:
            return None
        try:
            async with self._http.get(f"http://127.0.0.1:{process.ports['progress']}/progress") as answer:
                return Progress.model_validate_json(await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError):
            return None

    async def _ended(self, process: Process) -> None:
        while process.alive:
            await self.wait_changed(0.1)


def _failed(process: Process) -> bool:
    ended = process.exit()
    return (ended is not None and ended[0] != 0) or (ended is None and not process.alive)


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
