"""Whatever is killed whenever: the next `ixt run` ends in Complete with the same keys, nothing is left,
nothing that is committed is touched and nothing is made twice."""

import json
import re
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from make import cli, rollouts, runs
from make.cli import PLAIN, PLAIN_NODES, Desk
from make.processes import child_of, kill, marked, supervisors, until, workers
from make.zygote import Done, Zygote

INTERRUPTED = 130
RUN = ("run", "run.yaml", "--runtime", "stubs.yaml")

Run = Callable[..., Done]

ROUNDS = {
    "model": {"source": "./model"},
    "stages": [rollouts.stage(datasets=[{"name": "prompts", "uri": "./documents.jsonl"}])],
}
KINDS = {"plain": PLAIN, "judged": {}, "rounds": ROUNDS}


@pytest.fixture
def run(zygote: Zygote) -> Run:
    """`ixt run` on a desk, to its end or until it is killed."""

    def ask(desk: Desk, at: int = 0, how: int | str = signal.SIGKILL) -> Done:
        return zygote.run("ixt", RUN, desk.folder, desk.environment(), at, how)

    return ask


@pytest.fixture(scope="module")
def undisturbed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Keys of the smallest run, of one with a judge and of one with rounds, carried out without a kill."""
    found = {}
    for name, fields in KINDS.items():
        desk = cli.desk(tmp_path_factory.mktemp(name), zygote, **fields)
        assert desk.run().code == 0
        found[name] = desk.node_keys()
    return found


def check_whole(desk: Desk, keys: dict[str, str]) -> None:
    """The run is complete, and its traces are those of one that nobody disturbed."""
    status = json.loads((desk.workdir / "status.json").read_text())
    assert status["phase"] == "Complete"
    assert desk.node_keys() == keys
    assert desk.manifests().keys() == set(keys.values())
    assert {node: desk.made(node) for node in keys if desk.made(node) > 1} == {}
    assert desk.told_twice() == []
    assert marked(desk.workdir) == []
    assert list((desk.workdir / "report").glob("*/report.html"))


# --- `ixt run` itself.


@pytest.mark.parametrize(
    ("kind", "how", "first", "stride"),
    [
        ("plain", signal.SIGKILL, 1, 2),
        ("judged", signal.SIGKILL, 24, 9),
        ("plain", "all", 2, 4),
        ("plain", signal.SIGTERM, 1, 7),
        ("judged", -signal.SIGINT, 2, 13),
        ("rounds", "all", 60, 47),
    ],
    ids=[
        "killed",
        "killed with a judge",
        "everything killed at once",
        "SIGTERM",
        "Ctrl-C again and again",
        "rounds",
    ],
)
def test_stopped_at_every_change_that_it_makes(
    tmp_path: Path,
    run: Run,
    zygote: Zygote,
    undisturbed: dict[str, dict[str, str]],
    kind: str,
    how: int | str,
    first: int,
    stride: int,
) -> None:
    """Each run is stopped a little later than the one before, until one goes through."""
    desk = cli.desk(tmp_path, zygote, **KINDS[kind])
    expected = {-signal.SIGKILL} if how in (signal.SIGKILL, "all") else {INTERRUPTED, -abs(int(how))}
    before: dict[str, cli.File] = {}
    for at in count(first, stride):
        code, *said = run(desk, at, how)
        assert "Traceback" not in "".join(said)
        after = desk.committed() if desk.storage.exists() else {}
        assert {path: after.get(path) for path in before} == before
        before = after
        if code == 0:
            break
        assert code in expected, said
        assert at < 600
    assert at > 30
    check_whole(desk, undisturbed[kind])


@pytest.mark.parametrize("at", [49, 80])
def test_killed_once(tmp_path: Path, run: Run, undisturbed: dict[str, dict[str, str]], at: int) -> None:
    """And nobody comes to clear up: what it started ends by itself. Its steps are read anew, not forked."""
    desk = cli.desk(tmp_path, **PLAIN)
    assert run(desk, at).code == -signal.SIGKILL
    until(lambda: marked(desk.workdir) == [])
    before = desk.committed()
    assert run(desk).code == 0
    assert {path: desk.committed()[path] for path in before} == before
    check_whole(desk, undisturbed["plain"])


def test_two_at_once(desk: Desk) -> None:
    """The second says who is at work and leaves it alone."""
    desk.tell({"pretrain/train/plain-s0": {"1": {"wait_for": str(desk.folder / "go")}}})
    with desk.started() as process:
        until(lambda: any("-train-" in log.name for log in desk.logs.glob("*")))
        done = desk.run()
        assert done.code == 2
        assert done.err == (
            f"{desk.workdir} is in use by process {process.pid}: wait until it ends, stop it with "
            f"`kill {process.pid}`, or choose another --workdir\n"
        )
        (desk.folder / "go").touch()
        process.communicate()
    assert process.returncode == 0


def test_ctrl_c_before_anything_has_begun(desk: Desk) -> None:
    """While the program is still being read: no word, and the signal is the shell's to report."""
    program = (
        "import os, sys; from ixt_operator.cli.main import main\n"
        "class Slow:\n"
        "    def find_spec(name, *_): name == 'pydantic' and os.kill(os.getpid(), 2)\n"
        "sys.meta_path.insert(0, Slow); main()"
    )
    done = desk.program([sys.executable, "-c", program, *RUN])
    assert done == (-signal.SIGINT, "", "")
    assert not desk.workdir.exists()


def test_ctrl_c_twice_waits_for_no_grace(desk: Desk) -> None:
    """A step that does not listen has two minutes to save its state, unless a person insists."""
    deaf = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    desk.dump("stubs.yaml", cli.stubs(command=["python", "-c", deaf]))
    with desk.started() as process:
        until(lambda: any("deaf" in log.read_text() for log in desk.logs.glob("*")))
        process.send_signal(signal.SIGINT)
        assert process.stdout
        until(lambda: "stopping" in process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == INTERRUPTED
    assert err == "interrupted; go on with: ixt run run.yaml --runtime stubs.yaml\n"
    assert marked(desk.workdir) == []


# --- Its steps.


def test_a_step_killed_at_every_change_that_it_makes(
    tmp_path: Path, zygote: Zygote, undisturbed: dict[str, dict[str, str]]
) -> None:
    """Many seeds train side by side, each is killed at another moment: before its files, between them and its
    manifest, after that and before its result."""
    seeds = list(range(20))
    desk = cli.desk(
        tmp_path, zygote, judge=None, arms=[runs.arm("plain", "NextToken", seeds=seeds)], maxParallelLanes=20
    )
    nodes = [f"pretrain/train/plain-s{seed}" for seed in seeds]
    desk.tell({node: {"1": {"die_at": place + 1}} for place, node in enumerate(nodes)})
    assert desk.run().code == 0
    keys = desk.node_keys()
    # The first ones died before their manifest, the next ones after it, the last ones not at all.
    again = [desk.manifests()[keys[node]]["createdBy"]["attempt"] > 1 for node in nodes]
    assert again == sorted(again, reverse=True)
    assert set(again) == {False, True}
    made = [desk.made(node) for node in nodes]
    assert set(made) == {0, 1}  # 0: committed, and killed before it could say so
    assert not any(again[place] for place, number in enumerate(made) if number == 0)
    assert made[-1] == 1
    assert {node: keys[node] for node in PLAIN_NODES if node != "report"} == {
        node: key for node, key in undisturbed["plain"].items() if node != "report"
    }
    check_whole(desk, keys)


def test_inventory_killed_at_every_change_that_it_makes(
    desk: Desk, undisturbed: dict[str, dict[str, str]]
) -> None:
    """Without a budget the run fails each time; the next attempt has the next number."""
    desk.write(**PLAIN, failurePolicy={"application": 0})
    desk.tell({"pretrain/inventory": {str(place): {"die_at": 2 * place} for place in range(1, 25)}})
    tries = [desk.run()]
    while tries[-1].code == 1:
        assert "killed by SIGKILL" in tries[-1].err
        tries.append(desk.run())
    assert tries[-1].code == 0
    assert len(tries) > 4
    check_whole(desk, undisturbed["plain"])
    # What was being written goes with the rest of the garbage.
    assert list(desk.storage.glob("work/.tmp/*"))
    desk.ixt("gc", "run.yaml", "--older-than-days", "0", "--delete")
    assert list(desk.storage.glob("work/.tmp/*")) == []


def test_a_supervisor_and_a_step_killed(tmp_path: Path, undisturbed: dict[str, dict[str, str]]) -> None:
    """The first attempt loses its supervisor, the second its process: the run goes on. No step is forked."""
    desk = cli.desk(tmp_path, **PLAIN)
    nodes = ("pretrain/inventory", "pretrain/train/plain-s0")
    desk.tell({node: {"1": {"hang": True}, "2": {"hang": True}} for node in nodes})
    with desk.started() as process:
        for step in ("inventory", "train"):
            for attempt, find in enumerate((supervisors, workers), 1):
                kill(awaited(desk, rf"-{step}-\w+-{attempt}$", find))
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.count("AttemptFailed") == 4
    assert out.count("its process is lost: it was killed from outside") == 2
    assert out.count("killed by SIGKILL (perhaps the machine ran out of memory)") == 2
    check_whole(desk, undisturbed["plain"])


def awaited(desk: Desk, child: str, find: Callable[[Path], list[int]]) -> int:
    """The first process of a kind, supervisors or workers, whose child's name matches, once there is one."""

    found: list[int] = []

    def some() -> bool:
        # Kept: the next look may find it gone.
        found[:] = [pid for pid in find(desk.workdir) if re.search(child, child_of(pid))]
        return bool(found)

    until(some, every=0.05)
    return found[0]


def test_a_judge_that_dies_is_started_anew(judged: Desk) -> None:
    """While it is read from, and the annotation goes on."""
    judged.tell({"pretrain/annotate/0-15": {"1": {"wait_for": str(judged.folder / "go")}}})
    with judged.started() as process:
        awaited(judged, "-annotate-", workers)
        server = awaited(judged, "-judge-", workers)
        kill(server)
        until(lambda: awaited(judged, "-judge-", workers) != server)
        (judged.folder / "go").touch()
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "AttemptFailed" not in out
    assert all(number == 1 for number in map(judged.made, judged.node_keys()))
