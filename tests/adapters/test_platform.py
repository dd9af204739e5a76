"""What the planner may rely on, whatever runs its children: the contract of adapters/port.py."""

import json
import signal
from pathlib import Path

import pytest
from make.children import SUCCEED, WAIT, server, tasks

from ixt_operator.adapters.port import Platform
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import ChildState, ProcessPhase, ProcessState
from ixt_operator.planner.retry import cause_of
from ixt_workloads.contract.exits import Exit, Fault
from ixt_workloads.contract.results import Outcome, Result

from .conftest import Place, until


def has_ended(state: ChildState) -> bool:
    return state.ended


def is_ready(state: ChildState) -> bool:
    return all(process.phase is ProcessPhase.READY for process in state.processes)


async def outcome(platform: Platform, child: Child) -> ProcessState:
    """How the only process of a child ended."""
    await platform.create(child)
    (process,) = (await until(platform, child.name, has_ended)).processes
    return process


async def test_nothing_at_first(platform: Platform) -> None:
    assert (await platform.observe()).children == {}


async def test_success(platform: Platform) -> None:
    process = await outcome(platform, tasks("one", "result(message='did it', flops={'training': 3})"))
    assert (process.phase, process.exit_code) == (ProcessPhase.SUCCEEDED, 0)
    assert process.result is not None
    assert (process.result.outcome, process.result.message) == (Outcome.COMMITTED, "did it")
    assert process.result.flops == {"training": 3}
    assert process.ended_at is not None


async def test_what_a_child_is_known_by(platform: Platform) -> None:
    child = tasks("one", SUCCEED, kind="Prepare", stage="pretrain", arm="all", key="k" * 32, attempt=7)
    await platform.create(child)
    state = await until(platform, "one", has_ended)
    assert (state.node, state.key, state.attempt) == ("pretrain/prepare/all", "k" * 32, 7)
    assert state.created_at <= (state.processes[0].ended_at or 0)


async def test_failure_says_why(platform: Platform) -> None:
    program = "result(outcome='Failed', message='no such file', hint='mend it', fault='User'); sys.exit(66)"
    process = await outcome(platform, tasks("one", program))
    assert (process.phase, process.exit_code) == (ProcessPhase.FAILED, Exit.NO_INPUT)
    assert process.result is not None
    assert (process.result.message, process.result.hint) == ("no such file", "mend it")
    assert process.result.fault is Fault.USER


async def test_failure_without_a_word_shows_the_last_lines_of_its_log(platform: Platform) -> None:
    program = "for line in range(1000): print('line', line, flush=True)\nraise ValueError('broken')"
    process = await outcome(platform, tasks("one", program))
    assert (process.phase, process.exit_code, process.result) == (ProcessPhase.FAILED, 1, None)
    assert process.last_log.endswith("ValueError: broken")
    assert "line 999" in process.last_log
    assert len(process.last_log) <= 4096


async def test_killed_by_a_signal(platform: Platform) -> None:
    process = await outcome(platform, tasks("one", "os.kill(os.getpid(), signal.SIGSEGV)"))
    assert process.phase is ProcessPhase.FAILED
    assert process.exit_code in (-signal.SIGSEGV, 128 + signal.SIGSEGV)


async def test_a_program_that_is_not_there(platform: Platform) -> None:
    child = tasks("one", "").model_copy(update={"argv": ("/no/such/program",)})
    process = await outcome(platform, child)
    assert process.phase is ProcessPhase.FAILED
    assert "/no/such/program" in process.last_log + process.reason


@pytest.mark.parametrize("text", ["", "{", '"done"', '{"message": "done"}', "\\xff"])
async def test_a_success_whose_result_cannot_be_read_is_none(platform: Platform, text: str) -> None:
    child = tasks("one", f"open(env['IXT_RESULT'], 'wb').write(b'{text}')")
    process = await outcome(platform, child)
    assert (process.phase, process.exit_code, process.result) == (ProcessPhase.FAILED, 0, None)
    assert process.reason == "NoResult"


async def test_of_a_newer_images_result_as_much_is_read_as_is_known(platform: Platform) -> None:
    process = await outcome(platform, tasks("one", "result(outcome='Done', later={'a': 1}, key='k')"))
    assert process.phase is ProcessPhase.SUCCEEDED
    assert process.result == Result(outcome=Outcome.OTHER, key="k")


async def test_the_fault_of_an_unreadable_result_is_retried(platform: Platform) -> None:
    await platform.create(tasks("one", "pass"))
    cause = cause_of(await until(platform, "one", has_ended))
    assert cause.fault is Fault.APPLICATION
    assert "no result" in cause.message


async def test_its_task_and_environment(platform: Platform) -> None:
    words = "sys.argv[1], env['GREETING'], env['IXT_INDEX'], open(env['IXT_TASK']).read()"
    program = f"result(message=' '.join([{words}]))"
    child = tasks("one", program, env={"GREETING": "hello"})
    child = child.model_copy(update={"argv": (*child.argv, "$(GREETING)-$(UNKNOWN)")})
    process = await outcome(platform, child)
    assert process.result is not None
    assert process.result.message == "hello-$(UNKNOWN) hello 0 {}"


async def test_progress(platform: Platform) -> None:
    figures = {"ixt_training_loss": {"": 2.5}}
    program = f"progress(done=3, total=8, unit='documents', message='halfway', figures={figures}); wait()"
    await platform.create(tasks("one", program))
    (process,) = (await until(platform, "one", lambda state: bool(state.processes[0].progress))).processes
    assert process.phase is ProcessPhase.RUNNING
    assert process.progress is not None
    assert (process.progress.done, process.progress.total, process.progress.unit) == (3, 8, "documents")
    assert process.progress.figures == figures


async def test_progress_that_is_none(platform: Platform) -> None:
    """A process that answers nonsense is running all the same."""
    program = "answering('IXT_PORT_PROGRESS', 200, b'[1]').serve_forever()"
    await platform.create(tasks("one", program))
    state = await until(platform, "one", lambda state: state.processes[0].phase is ProcessPhase.RUNNING)
    assert state.processes[0].progress is None


async def test_several_indexes_share_a_leader(platform: Platform) -> None:
    program = "result(message=env['IXT_INDEX'] + ' of ' + env['IXT_LEADER'])"
    await platform.create(tasks("group", program, indexes=3, ports={"progress": 8080, "rendezvous": 29500}))
    state = await until(platform, "group", has_ended)
    said = [process.result.message.split(" of ") for process in state.processes if process.result]
    assert [index for index, _ in said] == ["0", "1", "2"]
    (leader,) = {leader for _, leader in said}
    host, port = leader.split(":")
    assert host
    assert int(port) > 0


async def test_the_leader_can_be_reached(platform: Platform) -> None:
    program = """
import socket
host, port = env["IXT_LEADER"].split(":")
if env["IXT_INDEX"] == "0":
    with socket.create_server((env["IXT_HOST"], int(env["IXT_PORT_RENDEZVOUS"]))) as server:
        server.accept()[0].sendall(b"hello")
    result()
else:
    for _ in range(1000):
        try:
            result(message=socket.create_connection((host, int(port))).recv(9).decode())
            break
        except OSError:
            time.sleep(0.01)
"""
    await platform.create(tasks("group", program, indexes=2, ports={"progress": 8080, "rendezvous": 29500}))
    state = await until(platform, "group", has_ended)
    assert state.processes[1].result is not None
    assert state.processes[1].result.message == "hello"


async def test_one_failed_index_stops_the_others(platform: Platform) -> None:
    program = """
if env["IXT_INDEX"] == "1":
    result(outcome="Failed", message="lost a rank", fault="Hung")
    sys.exit(82)
stopped(lambda: (result(outcome="Failed", fault="Infrastructure"), os._exit(83)))
wait()
"""
    await platform.create(tasks("group", program, indexes=3))
    state = await until(platform, "group", has_ended)
    assert len(state.failed) == 3
    assert cause_of(state).fault is Fault.HUNG
    assert "lost a rank" in cause_of(state).message


async def test_servers_become_ready_and_are_found(platform: Platform) -> None:
    await platform.create(server("judge", "serve()", indexes=2))
    await until(platform, "judge", is_ready)
    program = """
import urllib.request
codes = [urllib.request.urlopen(url + "/health").status for url in env["IXT_JUDGE_URLS"].split(",")]
result(message=str(codes))
"""
    process = await outcome(platform, tasks("client", program, servers={"JUDGE": "judge"}))
    assert process.result is not None
    assert process.result.message == "[200, 200]"


async def test_a_server_and_its_clients_have_one_key_that_is_the_runs_own(platform: Platform) -> None:
    tell = "result(message=env['IXT_API_KEY'])"
    server_key = await outcome(platform, tasks("judge", tell, api_keys=("IXT_API_KEY",)))
    client_key = await outcome(platform, tasks("client", tell, api_keys=("IXT_API_KEY",)))
    assert server_key.result is not None and client_key.result is not None
    assert server_key.result.message == client_key.result.message
    assert len(server_key.result.message) >= 32


async def test_a_server_that_does_not_answer_is_running_until_it_is_given_up(platform: Platform) -> None:
    await platform.create(server("judge", "serve(503)", ready_seconds=1))
    state = await until(platform, "judge", lambda state: bool(state.processes[0].reason))
    assert state.processes[0].reason == "NeverReady"
    assert state.processes[0].phase is ProcessPhase.FAILED


async def test_a_server_that_ends_is_started_anew(platform: Platform) -> None:
    """And its count tells the planner when to give up."""
    await platform.create(server("judge", "print('no memory', flush=True); time.sleep(1); sys.exit(1)"))
    for phase in (ProcessPhase.RUNNING, ProcessPhase.FAILED):  # one that runs again tells of its last end
        state = await until(
            platform,
            "judge",
            lambda state, phase=phase: state.processes[0].restarts and state.processes[0].phase is phase,
        )
        assert state.processes[0].exit_code == 1
    assert "no memory" in state.processes[0].last_log


async def test_a_server_that_a_person_must_mend_is_not_started_anew(platform: Platform) -> None:
    program = "result(outcome='Failed', message='no weights', fault='User'); sys.exit(66)"
    await platform.create(server("judge", program))
    state = await until(platform, "judge", lambda state: bool(state.failed))
    assert state.processes[0].exit_code == Exit.NO_INPUT
    assert state.processes[0].restarts == 0
    assert cause_of(state).fault is Fault.USER


async def test_servers_are_scaled(platform: Platform) -> None:
    child = server("judge", "serve()")
    await platform.create(child)
    await until(platform, "judge", is_ready)
    await platform.scale(child.model_copy(update={"indexes": 3}))
    await until(platform, "judge", lambda state: len(state.processes) == 3 and is_ready(state))
    await platform.scale(child)
    await until(platform, "judge", lambda state: len(state.processes) == 1 and is_ready(state))


async def test_scaling_what_is_not_there(platform: Platform) -> None:
    await platform.scale(server("judge", "serve()"))
    assert (await platform.observe()).children == {}


async def test_create_twice(platform: Platform) -> None:
    """A stale reader's second create changes nothing, not even with other contents."""
    await platform.create(tasks("one", "result(message='first')"))
    await platform.create(tasks("one", "result(message='second')", key="1" * 32))
    state = await until(platform, "one", has_ended)
    assert state.key == "0" * 32
    assert state.processes[0].result is not None
    assert state.processes[0].result.message == "first"


async def test_delete_lets_a_process_finish(platform: Platform, tmp_path: Path) -> None:
    """It is told to stop, and has its grace to save what it has."""
    saved = tmp_path / "saved"
    program = f"stopped(lambda: (open({str(saved)!r}, 'w').close(), os._exit(83))); progress(); wait()"
    await platform.create(tasks("one", program))
    await until(platform, "one", lambda state: bool(state.processes[0].progress))
    await platform.delete("one")
    assert saved.exists()
    assert (await platform.observe()).children == {}


async def test_delete_kills_after_the_grace(platform: Platform) -> None:
    await platform.create(
        tasks("one", "stopped(lambda: None); progress(); [wait() for _ in range(9)]", grace_seconds=1)
    )
    await until(platform, "one", lambda state: bool(state.processes[0].progress))
    await platform.delete("one")
    assert (await platform.observe()).children == {}


async def test_delete_of_nothing(platform: Platform) -> None:
    await platform.delete("nobody")


async def test_a_name_is_free_again_after_delete(platform: Platform) -> None:
    await platform.create(tasks("one", WAIT))
    await platform.delete("one")
    process = await outcome(platform, tasks("one", SUCCEED))
    assert process.phase is ProcessPhase.SUCCEEDED


async def test_the_next_owner_sees_what_ended(place: Place) -> None:
    async with place.open() as platform:
        await outcome(platform, tasks("good", SUCCEED, attempt=2))
        await outcome(platform, tasks("bad", "result(outcome='Failed', message='oh'); sys.exit(65)"))
    async with place.open() as platform:
        found = (await platform.observe()).children
        assert sorted(found) == ["bad", "good"]
        good, bad = found["good"].processes[0], found["bad"].processes[0]
        assert (found["good"].attempt, good.phase) == (2, ProcessPhase.SUCCEEDED)
        assert good.result is not None
        assert good.result.message == "done"
        assert (bad.phase, bad.exit_code) == (ProcessPhase.FAILED, Exit.DATA)
        await platform.delete("good")
        await platform.create(tasks("good", SUCCEED))  # and may go on from there
        await until(platform, "good", has_ended)


async def test_results_fit_what_kubernetes_keeps(platform: Platform) -> None:
    process = await outcome(platform, tasks("one", "result(message='x' * 2048, hint='y' * 512)"))
    assert process.result is not None
    assert len(json.dumps(process.result.model_dump(mode="json", exclude_defaults=True))) < 4096
