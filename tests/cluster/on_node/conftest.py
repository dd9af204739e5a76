"""Tests whose pods run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import operator_image
from cluster.kubectl import Kubectl
from cluster.node import NodeCluster, load_images
from cluster.on_node.operating import Site
from cluster.on_node.operating import site as opened_site
from make.chart import CHART, NAMESPACE, RELEASE, helm


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.xdist_group("node"))  # One worker starts it.
    # The first one's time has the node's start and the making of the image in it.
    if item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def cluster(node_cluster: NodeCluster) -> NodeCluster:
    return node_cluster


@pytest.fixture
def restricted(kubectl: Kubectl) -> Kubectl:
    """kubectl in a namespace of the restricted Pod Security level."""
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    return kubectl


@pytest.fixture(scope="session")
def release(cluster: NodeCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl in the namespace of the chart's release: the operator as its image, two replicas."""
    archive = tmp_path_factory.mktemp("image") / "operator.tar"
    operator_image.build(archive)
    load_images(cluster.sandbox, archive)
    kubectl = cluster.kubectl(NAMESPACE)
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    image = {"repository": operator_image.IMAGE, "tag": operator_image.TAG, "pullPolicy": "Never"}
    settings = [f"--set=image.{name}={value}" for name, value in image.items()]
    helm("install", RELEASE, str(CHART), "--wait", *settings, kubeconfig=cluster.kubeconfig)
    return kubectl


@pytest.fixture
def site(release: Kubectl, kubectl: Kubectl, tmp_path: Path) -> Iterator[Site]:
    """A namespace in which runs are carried out."""
    with opened_site(kubectl, tmp_path) as found:
        yield found
