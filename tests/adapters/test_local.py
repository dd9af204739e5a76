"""Processes of this machine: what a killed owner, supervisor or step leaves behind, which is nothing."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from make.children import SUCCEED, WAIT, server, tasks
from make.operator import eventually
from make.processes import kill, lives, marked, parent, supervisors, until, workers

from ixt_operator.adapters.local import leftovers
from ixt_operator.adapters.local.platform import LocalPlatform
from ixt_operator.adapters.local.process import Process
from ixt_operator.adapters.local.workdir import LocalError
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import ProcessPhase
from ixt_operator.planner.retry import cause_of
from ixt_workloads.contract.exits import Fault

from . import conftest

FAMILY = """
# A step that forks an engine of its own session, which forks once more: engines do.
import subprocess
if len(sys.argv) < 4:
    code = open("/proc/self/cmdline").read().split(chr(0))[2]
    subprocess.Popen([sys.executable, "-c", code, *sys.argv[1:], "x"], start_new_session=True)
stopped(lambda: None)
progress() if len(sys.argv) == 1 else None
while True:
    wait()
"""
SIZE = 4


def family(name: str = "family") -> Child:
    """Four processes, each the child of the one before and in a session of its own, deaf to SIGTERM."""
    return tasks(name, FAMILY, grace_seconds=1)


@contextmanager
def owner(workdir: Path, child: Child) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the workdir open and runs a child."""
    file = workdir.with_suffix(".json")
    file.write_text(child.model_dump_json())
    command = [sys.executable, str(Path(__file__).with_name("owner.py")), str(workdir), str(file)]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: len(workers(workdir)) == SIZE)
            yield process
        finally:
            process.kill()


@pytest.fixture
def workdir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "work"
    yield folder
    assert marked(folder) == []


async def opened_and_left(workdir: Path) -> None:
    """What the next `ixt run` does first."""
    async with LocalPlatform.open(workdir):
        assert marked(workdir) == []


def test_owner_killed(workdir: Path) -> None:
    """The supervisors hear of it and end what they run, with its grace."""
    with owner(workdir, family()) as process:
        process.kill()
        until(lambda: marked(workdir) == [])


async def test_owner_killed_and_the_next_does_not_wait(workdir: Path) -> None:
    with owner(workdir, family().model_copy(update={"grace_seconds": 600})) as process:
        process.kill()
        process.wait()
        await opened_and_left(workdir)


async def test_owner_and_supervisor_killed(workdir: Path) -> None:
    """The step itself dies with its supervisor; what it forked, when the next owner comes."""
    with owner(workdir, family()) as process:
        (supervisor,) = supervisors(workdir)
        for pid in (process.pid, supervisor):
            os.kill(pid, signal.SIGSTOP)
        for pid in (process.pid, supervisor):
            kill(pid)
        process.wait()
        until(lambda: len(workers(workdir)) < SIZE)
        await opened_and_left(workdir)


async def test_the_next_owner_sees_what_was_killed_as_lost(workdir: Path) -> None:
    with owner(workdir, family()) as process:
        (supervisor,) = supervisors(workdir)
        kill(supervisor)
        process.kill()
    async with LocalPlatform.open(workdir) as platform:
        state = (await platform.observe()).children["family"]
        assert state.ended
        assert cause_of(state).fault is Fault.INFRASTRUCTURE
        assert "killed from outside" in cause_of(state).message


async def test_supervisor_killed(workdir: Path) -> None:
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(family())
        until(lambda: len(workers(workdir)) == SIZE)
        (supervisor,) = supervisors(workdir)
        kill(supervisor)
        state = await conftest.until(platform, "family", lambda state: state.ended)
        assert state.processes[0].reason == "Lost"
        assert cause_of(state).fault is Fault.INFRASTRUCTURE
        assert marked(workdir) == []


async def test_what_was_lost_has_ended_once_what_it_left_is_gone(workdir: Path) -> None:
    """A supervisor may die between the look for such and the look at how things stand."""
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(tasks("one", WAIT))
        until(lambda: len(workers(workdir)) == 1)
        group = platform._groups["one"]
        killed(group.processes[0])
        assert not (await platform._child_state(group)).ended
        assert (await platform.observe()).children["one"].ended
        assert marked(workdir) == []


async def test_a_server_is_not_started_beside_what_it_left(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor dies while the platform clears up after another."""
    async with LocalPlatform.open(workdir) as platform:
        engine = "if os.fork() == 0:\n    wait()\nserve()"
        await platform.create(server("judge", engine, indexes=2))
        await conftest.until(
            platform, "judge", lambda state: {p.phase for p in state.processes} == {ProcessPhase.READY}
        )
        first, second = platform._groups["judge"].processes

        def kill_left(*arguments: Any) -> None:
            if first.alive and not first.restarts:
                killed(first)
            leftovers.kill_left(*arguments)

        monkeypatch.setattr("ixt_operator.adapters.local.platform.kill_left", kill_left)
        for process in (first, second):
            process.started_at -= 60  # it need not wait before it is started anew
        killed(second)
        await conftest.until(
            platform,
            "judge",
            lambda state: {(p.phase, p.restarts) for p in state.processes} == {(ProcessPhase.READY, 1)},
        )
        assert (len(supervisors(workdir)), len(workers(workdir))) == (2, 4)


def killed(process: Process) -> None:
    """Kill its supervisor and see it gone."""
    assert process.popen
    process.popen.kill()
    process.popen.wait()


async def test_supervisor_of_a_server_killed(workdir: Path) -> None:
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(server("judge", "serve()"))
        await conftest.until(platform, "judge", lambda state: state.processes[0].phase is ProcessPhase.READY)
        kill(supervisors(workdir)[0])
        state = await conftest.until(platform, "judge", lambda state: state.processes[0].restarts == 1)
        state = await conftest.until(
            platform, "judge", lambda state: state.processes[0].phase is ProcessPhase.READY
        )
        assert len(supervisors(workdir)) == len(workers(workdir)) == 1
        assert state.processes[0].restarts == 1


async def test_step_killed(workdir: Path) -> None:
    """The supervisor clears up what it forked."""
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(family())
        until(lambda: len(workers(workdir)) == SIZE)
        (supervisor,) = supervisors(workdir)
        kill(next(pid for pid in workers(workdir) if parent(pid) == supervisor))
        state = await conftest.until(platform, "family", lambda state: state.ended)
        assert state.processes[0].exit_code == -signal.SIGKILL
        assert "SIGKILL" in cause_of(state).message
        assert marked(workdir) == []


async def test_step_that_ends_by_itself_leaves_nothing(workdir: Path) -> None:
    program = "if os.fork() == 0:\n    os.setsid()\n    wait()\n" + SUCCEED
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(tasks("one", program))
        state = await conftest.until(platform, "one", lambda state: state.ended)
        assert state.processes[0].phase is ProcessPhase.SUCCEEDED
        assert marked(workdir) == []


async def test_delete_ends_all_that_a_child_forked(workdir: Path) -> None:
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(family())
        await platform.create(tasks("other", WAIT))
        until(lambda: len(workers(workdir)) == SIZE + 1)
        await platform.delete("family")
        assert len(workers(workdir)) == 1


async def test_hurry(workdir: Path) -> None:
    """Told to stop a second time, nothing waits for its grace."""
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(family().model_copy(update={"grace_seconds": 600}))
        until(lambda: len(workers(workdir)) == SIZE)
        closing = asyncio.create_task(platform.delete("family"))
        await asyncio.sleep(0)  # until it has told
        platform.hurry()
        await closing


async def test_told_to_stop_before_it_has_begun(workdir: Path) -> None:
    """Its supervisor, which may not be there yet either, hears of it and says how it ended."""
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(tasks("one", WAIT))
        platform._groups["one"].processes[0].stop()
        state = await conftest.until(platform, "one", lambda state: state.ended)
        assert state.processes[0].reason == ""
        assert state.processes[0].exit_code == -signal.SIGTERM


async def test_hurry_reaches_what_is_stopped_later(workdir: Path) -> None:
    """Told a second time, servers, which are stopped last, have no grace either."""
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(server("judge", "stopped(lambda: None)\nserve()", grace_seconds=600))
        await conftest.until(platform, "judge", lambda state: state.processes[0].phase is ProcessPhase.READY)
        platform.hurry()


async def test_two_owners(workdir: Path) -> None:
    async with LocalPlatform.open(workdir):
        with pytest.raises(LocalError, match=f"in use by process {os.getpid()}.*--workdir"):
            async with LocalPlatform.open(workdir):
                pass
    await opened_and_left(workdir)


async def test_missing_secret(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tasks("one", "result(message=env['API_KEY'])", secret_env={"API_KEY": ("judge", "apiKey")})
    monkeypatch.delenv("API_KEY", raising=False)
    async with LocalPlatform.open(workdir) as platform:
        with pytest.raises(
            LocalError, match=r"API_KEY is not set.*key apiKey of Secret judge.*export API_KEY"
        ):
            await platform.create(child)
        assert (await platform.observe()).children == {}
        monkeypatch.setenv("API_KEY", "s3cret-value")
        await platform.create(child)
        state = await conftest.until(platform, "one", lambda state: state.ended)
        assert state.processes[0].result is not None
        assert state.processes[0].result.message == "s3cret-value"
        on_disk = [file for file in workdir.rglob("*") if file.is_file() and file.name != "result.json"]
        assert on_disk
        assert not [file for file in on_disk if b"s3cret-value" in file.read_bytes()]


async def test_a_port_is_nobody_elses_until_its_process_has_ended(workdir: Path) -> None:
    """Nor while nothing listens there yet: engines import for a long time before they do."""
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(tasks("one", WAIT))
        port = platform._groups["one"].processes[0].ports["progress"]
        with pytest.raises(OSError, match="in use"):
            take(port)
        await platform.delete("one")
        take(port)
        await platform.create(tasks("two", SUCCEED))
        port = platform._groups["two"].processes[0].ports["progress"]
        await conftest.until(platform, "two", lambda state: state.ended)
        await eventually(lambda: is_free(port))


def take(port: int) -> None:
    """Bind it for a moment. Raises OSError while anybody else has it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


def is_free(port: int) -> bool:
    with suppress(OSError):
        take(port)
        return True
    return False


async def test_ports_differ(workdir: Path) -> None:
    program = "result(message=env['IXT_PORT_PROGRESS'])"
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(tasks("group", program, indexes=6))
        state = await conftest.until(platform, "group", lambda state: state.ended)
    assert len({process.result.message for process in state.processes if process.result}) == 6


async def test_servers_that_come_late_have_their_own_time(workdir: Path) -> None:
    """A judge that is added after a long while has as long to become ready as the first one had."""
    child = server("judge", "serve()", ready_seconds=3600)
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(child)
        await conftest.until(platform, "judge", lambda state: state.processes[0].phase is ProcessPhase.READY)
        record = workdir / "children" / "judge" / "child.json"
        platform._groups["judge"].created_at -= 7200
        assert record.exists()
        await platform.scale(child.model_copy(update={"indexes": 2}))
        state = await conftest.until(
            platform, "judge", lambda state: state.processes[1].phase is not ProcessPhase.RUNNING
        )
        assert state.processes[1].phase is ProcessPhase.READY


async def test_half_made_children_are_cleared_away(workdir: Path) -> None:
    half = workdir / "children" / "half"
    half.mkdir(parents=True)
    (half / "task.json").write_text("{}")
    broken = workdir / "children" / "broken"
    broken.mkdir()
    (broken / "child.json").write_text(json.dumps({"child": {}}))
    async with LocalPlatform.open(workdir) as platform:
        assert (await platform.observe()).children == {}
        assert not half.exists()
        assert not broken.exists()


async def test_nothing_of_another_workdir_is_touched(workdir: Path) -> None:
    other = workdir.with_name("work2")
    async with LocalPlatform.open(other) as platform:
        await platform.create(tasks("one", WAIT))
        until(lambda: len(workers(other)) == 1)
        await opened_and_left(workdir)
        assert all(lives(pid) for pid in marked(other))
        assert len(marked(other)) == 2
