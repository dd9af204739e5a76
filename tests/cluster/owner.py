"""An owner to be ended: `python -m cluster.owner control-plane|node [FOLDER]` starts a cluster, prints its
pids, and waits."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.control_plane import control_plane
from cluster.node import node_cluster


@contextmanager
def running(level: str, *folder: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """Such an owner in a process of its own, and the pids on this machine of what it started."""
    command = [sys.executable, "-m", "cluster.owner", level, *map(str, folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, "no cluster: see its words above"
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    opened = control_plane(Path(sys.argv[2])) if sys.argv[1] == "control-plane" else node_cluster()
    with opened as cluster:
        print(json.dumps(cluster.pids()), flush=True)
        signal.pause()
