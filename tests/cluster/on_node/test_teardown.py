"""A node leaves nothing behind, whoever ends it and however."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster import node, owner, sandbox
from cluster.node import NodeCluster, node_cluster
from make.processes import lives, until


@pytest.fixture(autouse=True)
def swept() -> None:
    """What a killed session left before is none of this one's."""
    sandbox.sweep()


def left() -> set[str]:
    """What nodes make on the machine, apart from processes; without that of nodes that run."""

    def printed(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    found = {
        *(f"mount {line.split(' ', 1)[1]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        *(f"route {line}" for line in printed("ip", "route")),
        *(f"link {line.split(': ')[1]}" for line in printed("ip", "-o", "link")),
        *(f"network namespace {line}" for line in printed("ip", "netns")),
        *(
            f"{place}/{name}"
            # Not glob, which fails on what goes while it looks.
            for place, names, _ in os.walk("/sys/fs/cgroup")
            for name in names
            if "ixt-test-" in name
        ),
        *map(str, sandbox.STATE.glob("*")),
        *map(str, folders()),
    }
    running = [box for number in sandbox.NUMBERS if (box := sandbox.living(number))]
    theirs = [
        mark
        for box in running
        for mark in (box.network.device, f"/{box.number}.", f"{box.network.all[0]}/", str(box.folder))
    ]
    return {thing for thing in found if not any(mark in thing for mark in theirs)}


def folders() -> set[Path]:
    """Nodes' folders."""
    return set(Path(tempfile.gettempdir()).glob("ixt-node-*"))


def inside(cluster: NodeCluster) -> set[int]:
    """Pids on this machine of all processes within a node."""
    wanted = Path(f"/proc/{cluster.sandbox.init}/ns/pid").readlink()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "ns/pid").readlink() == wanted:
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def test_two_clusters_at_a_time_twice_in_a_row_leave_nothing() -> None:
    before = left()
    for _ in range(2):
        with ExitStack() as stack:
            clusters = [stack.enter_context(node_cluster()) for _ in range(2)]
            assert len({cluster.server for cluster in clusters}) == 2
            pids = {pid for cluster in clusters for pid in inside(cluster)}
            assert pids > {pid for cluster in clusters for pid in cluster.pids()}
        assert [pid for pid in pids if lives(pid)] == []
        assert left() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_node_ends_with_its_owner(number: signal.Signals) -> None:
    before = left()
    with owner.running("node") as (process, pids):
        assert all(map(lives, pids))
        os.kill(process.pid, number)
        process.wait()
        until(lambda: not any(map(lives, pids)))
    if number == signal.SIGKILL:
        assert left() != before
        sandbox.sweep()  # as the next start does
    assert left() == before


def test_a_node_interrupted_while_it_starts_leaves_nothing() -> None:
    before, others = left(), folders()
    command = [sys.executable, "-m", "cluster.owner", "node"]
    environment = {**os.environ, "PYTHONPATH": str(Path(node.__file__).parents[1])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: any(Path(folder, "etcd").exists() for folder in folders() - others))
            process.send_signal(signal.SIGINT)
            process.wait(60)
        finally:
            process.kill()
    assert left() == before
