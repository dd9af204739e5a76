"""The operator's process, before it meets a cluster."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def started(*arguments: str, kubeconfig: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ixt_operator.controller.app", *arguments],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Of a cluster that is not there."""
    path = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    found = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", **found}))
    return path


def test_a_port_that_is_taken_is_named(kubeconfig: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        ended = started(f"--port={port}", kubeconfig=kubeconfig)
    assert ended.returncode == 2
    assert str(port) in ended.stderr
    assert "address already in use; set --port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_times_of_a_lease_with_which_two_might_lead_are_refused(kubeconfig: Path) -> None:
    ended = started("--renew-deadline=15", "--lease-duration=15", kubeconfig=kubeconfig)
    assert ended.returncode == 2
    assert "both together at most --lease-duration" in ended.stderr


def test_without_a_cluster_it_says_what_to_set(tmp_path: Path) -> None:
    ended = started(kubeconfig=tmp_path / "nowhere")
    assert ended.returncode == 2
    assert "no cluster to serve" in ended.stderr
    assert "set KUBECONFIG" in ended.stderr
    assert "Traceback" not in ended.stderr
