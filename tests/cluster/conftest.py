"""Clusters for tests, and a namespace of its own for each test.

Run by `make test-control-plane` and `make test-cluster`. Tests of on_control_plane/ have a control plane as
their `cluster`, those of on_node/ a node; a control plane is started once a worker, the node once.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.base import Cluster
from cluster.control_plane import ControlPlane
from cluster.control_plane import control_plane as started_control_plane
from cluster.kubectl import Kubectl
from cluster.node import NodeCluster
from cluster.node import node_cluster as started_node_cluster

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, API server and controller manager with ixt's CRDs; pods stay Pending."""
    with started_control_plane(tmp_path_factory.mktemp("control-plane"), crds=CRDS) as plane:
        yield plane


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[NodeCluster]:
    """A cluster of one node; pods run. ixt's CRDs come with its chart."""
    with started_node_cluster() as cluster:
        yield cluster


@pytest.fixture
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    """kubectl in a new namespace, which goes after the test with all that is in it."""
    everywhere = cluster.kubectl()
    name = f"test-{secrets.token_hex(4)}"
    everywhere("create", "namespace", name)
    kubectl = everywhere.within(name)
    # Pods are refused before their service account is there.
    kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    yield kubectl
    everywhere("delete", "namespace", name, "--wait=false")
