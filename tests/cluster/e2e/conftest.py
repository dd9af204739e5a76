"""A cluster of the user's own: `make e2e KUBECONFIG=... [IMAGES=registry/folder] [RUNTIME=nvidia]`.

kubectl and helm are those on the PATH, or those that the tests' own clusters are made with. The chart is
installed where it is not, and removed again, but for CRDs and runtimes, which uninstalling leaves; one
that is there is taken as it is. The quickstart's claim needs a default StorageClass.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from cluster import binaries
from cluster.kubectl import Kubectl
from make.chart import CHART, NAMESPACE, RELEASE, HelmError, helm


@dataclass(frozen=True)
class Place:
    """A namespace of the user's cluster."""

    kubectl: Kubectl
    runtime: str
    image: str
    """Of the runtime's pods."""


def image(name: str) -> str:
    """An image's repository: as the chart has it, or where IMAGES says."""
    folder = os.environ.get("IMAGES", "").rstrip("/")
    return f"{folder}/{name}" if folder else name


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cluster's; clients are set up."""
    file = Path(os.environ.get("KUBECONFIG") or "nothing").absolute()
    if not file.is_file():
        pytest.fail("KUBECONFIG names no file: make e2e KUBECONFIG=~/.kube/config")
    clients = tmp_path_factory.mktemp("clients")
    for name in ("kubectl", "helm"):
        found = shutil.which(name) or binaries.find(name)
        if found is None:
            pytest.fail(f"{name} is not on the PATH: install it, or build it with make cluster-binaries")
        (clients / name).symlink_to(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBEBUILDER_ASSETS", str(clients))
        yield file


@pytest.fixture(scope="session")
def installed(kubeconfig: Path) -> Iterator[None]:
    """The operator."""
    try:
        helm("status", RELEASE, kubeconfig=kubeconfig)
    except HelmError:
        images = {"image": "ixt-operator"}
        images |= {f"runtimes.{name}.image": f"ixt-workloads-{name}" for name in ("cpu", "nvidia")}
        settings = [f"--set={path}.repository={image(name)}" for path, name in images.items()]
        kubectl = Kubectl(kubeconfig)
        ours = kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name") == ""
        new = ("--install", "--create-namespace", "--wait", "--timeout=5m")
        try:
            helm("upgrade", RELEASE, str(CHART), *new, *settings, kubeconfig=kubeconfig)
            yield
        finally:
            helm("uninstall", RELEASE, "--wait", kubeconfig=kubeconfig)
            if ours:
                kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    else:
        yield


@pytest.fixture
def place(kubeconfig: Path, installed: None) -> Iterator[Place]:
    """A namespace on the restricted level, which goes after the test."""
    everywhere, name = Kubectl(kubeconfig), f"ixt-e2e-{secrets.token_hex(4)}"
    everywhere("create", "namespace", name)
    everywhere("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    runtime = os.environ.get("RUNTIME") or "cpu"
    yield Place(everywhere.within(name), runtime, f"{image(f'ixt-workloads-{runtime}')}:{version('ixt')}")
    everywhere("delete", "namespace", name, "--wait=false")
