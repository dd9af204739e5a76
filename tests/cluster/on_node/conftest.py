"""Tests whose pods run."""

import pytest
from cluster.kubectl import Kubectl
from cluster.node import NodeCluster


@pytest.fixture(scope="session")
def cluster(node_cluster: NodeCluster) -> NodeCluster:
    return node_cluster


@pytest.fixture
def restricted(kubectl: Kubectl) -> Kubectl:
    """kubectl in a namespace of the restricted Pod Security level."""
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    return kubectl
