"""What engines do to their processes, and what a process is told and leaves behind."""

import os
import signal
from pathlib import Path

import pytest
from make.children import WAIT, tasks
from make.processes import lives, supervisors, until

from ixt_operator.adapters.local.platform import LocalPlatform
from ixt_operator.planner.child import Child

from .conftest import until as seen

ENGINE = """
engine = os.fork()
if engine == 0:  # as setproctitle does: of its environment nothing is left for others to see
    os.execve(sys.executable, [sys.executable, "-S", "-c", "import signal; signal.pause()"], {})
print("engine", engine, flush=True)
"""


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    return tmp_path / "work"


async def engine_of(platform: LocalPlatform, workdir: Path, child: Child) -> int:
    """Run a child that starts an ENGINE; the engine's pid once its environment is empty."""
    await platform.create(child)
    log = workdir / "logs" / f"{child.name}-0.log"
    until(lambda: log.exists() and log.read_text().startswith("engine"))
    pid = int(log.read_text().split()[1])
    until(lambda: Path(f"/proc/{pid}/environ").read_bytes() == b"")
    return pid


async def test_an_engine_without_environment_dies_with_its_supervisor(workdir: Path) -> None:
    async with LocalPlatform.open(workdir) as platform:
        engine = await engine_of(platform, workdir, tasks("judge", ENGINE + WAIT))
        other = await engine_of(platform, workdir, tasks("other", ENGINE + WAIT))
        (supervisor,) = [pid for pid in supervisors(workdir) if "judge|" in _environment(pid)]
        os.kill(supervisor, signal.SIGKILL)
        await seen(platform, "judge", lambda state: state.ended)
        assert not lives(engine)
        assert lives(other)
    assert not lives(other)


async def test_the_next_owner_ends_an_engine_without_environment(workdir: Path) -> None:
    """Owner and supervisor were killed: only the engine's log tells whose it is."""
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(tasks("judge", "result()"))
        await seen(platform, "judge", lambda state: state.ended)
    log = workdir / "logs" / "judge-0.log"
    engine = os.posix_spawn(
        "/bin/sleep", ["sleep", "600"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY, 0)]
    )
    reader = os.posix_spawn(
        "/bin/sleep", ["sleep", "600"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, str(log), os.O_RDONLY, 0)]
    )
    try:
        async with LocalPlatform.open(workdir):
            assert not lives(engine)
            assert lives(reader)  # who only reads a log is left alone
    finally:
        os.kill(reader, signal.SIGKILL)
        for pid in (engine, reader):
            os.waitpid(pid, 0)


async def test_a_process_is_told_nothing_of_another(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ixt run` may itself be a step of something."""
    for name in ("RESULT", "INDEX", "LEADER", "PORT_HTTP", "JUDGE_URLS"):
        monkeypatch.setenv(f"IXT_{name}", "of another")
    monkeypatch.setenv("IXT_PVC_ROOT", "/kept")
    program = "result(pins={name: env[name] for name in env if name.startswith('IXT_')})"
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(tasks("one", program))
        (process,) = (await seen(platform, "one", lambda state: state.ended)).processes
    told = process.result.pins if process.result else {}
    assert "of another" not in told.values()
    assert told["IXT_PVC_ROOT"] == "/kept"


async def test_the_last_lines_are_whole_and_few(workdir: Path) -> None:
    program = "print(*('x' * 300 + str(number) for number in range(10, 60)), sep=chr(10)); sys.exit(1)"
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(tasks("one", program))
        (process,) = (await seen(platform, "one", lambda state: state.ended)).failed
    assert len(process.last_log) <= 2048
    assert process.last_log.splitlines() == ["x" * 300 + str(number) for number in range(54, 60)]


async def test_a_log_outlives_its_child_and_is_gone_on_with(workdir: Path) -> None:
    async with LocalPlatform.open(workdir) as platform:
        for number in range(2):
            await platform.create(tasks("one", f"print('start', {number}); result()"))
            (process,) = (await seen(platform, "one", lambda state: state.ended)).processes
            await platform.delete("one")
    assert process.log == str(workdir / "logs" / "one-0.log")
    assert Path(process.log).read_text() == "start 0\nstart 1\n"


def _environment(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
