"""The control plane itself: it works, several run side by side, and none outlives its owner."""

import json
import os
import signal
from pathlib import Path

import pytest
from cluster import owner
from cluster.base import Cluster
from cluster.control_plane import control_plane
from cluster.kubectl import Kubectl
from make import pods, runs
from make.processes import lives, until


def test_a_job_makes_pods_that_wait_for_a_node(kubectl: Kubectl) -> None:
    kubectl.apply(pods.indexed_job("work", 2, "true"))
    kubectl("wait", "--for=jsonpath={.status.active}=2", "job/work", "--timeout=30s")
    found = kubectl.json("get", "pods")["items"]
    assert [pod["status"]["phase"] for pod in found] == ["Pending", "Pending"]


def test_what_a_run_owns_goes_with_it(kubectl: Kubectl) -> None:
    kubectl.apply(runs.applied(name="owner"))
    uid = kubectl.json("get", "ixtrun", "owner")["metadata"]["uid"]
    owned = {"apiVersion": "ixt.dev/v1alpha1", "kind": "IXTRun", "name": "owner", "uid": uid}
    metadata = {"name": "child", "ownerReferences": [owned]}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    kubectl("delete", "ixtrun", "owner")
    kubectl("wait", "--for=delete", "configmap/child", "--timeout=60s")


def test_several_run_side_by_side(cluster: Cluster, tmp_path: Path) -> None:
    with control_plane(tmp_path) as other:
        assert other.server != cluster.server
        other.kubectl()("create", "configmap", "mine")
        assert cluster.kubectl().run("get", "configmap", "mine").returncode
        pids = [other.pid(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager")]
        assert all(map(lives, pids))
    assert not any(map(lives, pids))


def test_a_program_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    with control_plane(tmp_path) as plane:
        plane.kubectl()("create", "configmap", "kept")
        plane.stop("kube-apiserver")
        assert not plane.answers("/readyz")
        plane.start("kube-apiserver")
        plane.until(lambda: plane.answers("/readyz"), "API server")
        assert plane.kubectl().json("get", "configmap", "kept")["metadata"]["name"] == "kept"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_its_owner(tmp_path: Path, number: signal.Signals) -> None:
    with owner.running("control-plane", tmp_path) as (process, pids):
        assert len(pids) == 3
        assert all(map(lives, pids))
        os.kill(process.pid, number)
        process.wait()
        until(lambda: not any(map(lives, pids)))


def test_the_version_is_the_releases(cluster: Cluster) -> None:
    version = json.loads(cluster.kubectl()("get", "--raw", "/version"))
    assert version["gitVersion"].startswith(f"v{version['major']}.{version['minor']}.")
