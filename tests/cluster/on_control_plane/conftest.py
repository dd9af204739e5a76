"""Tests that need no node."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl
from cluster.on_control_plane.operating import Field
from cluster.on_control_plane.operating import field as opened_field
from make.proxy import Proxy, proxied
from make.zygote import Zygote


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane) -> ControlPlane:
    return control_plane


@pytest.fixture
async def field(
    cluster: ControlPlane, kubectl: Kubectl, tmp_path: Path, zygote: Zygote
) -> AsyncIterator[Field]:
    """Where a test of the operator works."""
    async with opened_field(cluster, kubectl, tmp_path, zygote.command("stub")) as opened:
        yield opened


@pytest.fixture
async def proxy(cluster: ControlPlane, tmp_path: Path) -> AsyncIterator[Proxy]:
    """Between an operator and the API server; a test makes requests fail."""
    async with proxied(cluster.server, cluster.pki, tmp_path) as opened:
        yield opened
