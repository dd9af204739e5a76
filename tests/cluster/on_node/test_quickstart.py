"""The quickstart by real engines in pods: vLLM reads, two pods train together, the keys are those of
`ixt run`, and Prometheus sees what dashboards ask for."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import binaries, quickstart
from cluster.node import NodeCluster
from cluster.on_node.operating import Site
from cluster.on_node.watching import check_expositions, prove, watching
from make.cli import IXT
from make.runs import keys

from ixt_operator.api.meta import API_VERSION
from ixt_operator.manifests.documents import dump

BUCKET, ACCESS, SECRET = "ixt-test", "ixt-access", "ixt-secret-of-tests"
PORT = 7070
MINUTES = 8


@pytest.fixture
def filled(site: Site) -> Site:
    """A site whose claim holds data and models."""
    quickstart.fill(site.kubectl, site.adapt)
    return site


@pytest.fixture
def bucket(cluster: NodeCluster, site: Site) -> Iterator[str]:
    """URI of a bucket on a real S3 server, whose credentials are in the Secret `storage`."""
    folder = site.folder / "s3"
    (folder / BUCKET).mkdir(parents=True)
    address = f"{cluster.network.node}:{PORT}"
    keys = ("env", f"ROOT_ACCESS_KEY={ACCESS}", f"ROOT_SECRET_KEY={SECRET}")
    server = [str(binaries.path("versitygw")), "--quiet", "--port", address, "posix", str(folder)]
    cluster.run("versitygw", [*keys, *server])
    credentials = {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_REGION": "us-east-1",
        # The wire is a cable of this machine.
        "AWS_ALLOW_HTTP": "true",
    }
    site.kubectl.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage"}, "stringData": credentials}
    )
    yield f"s3://{BUCKET}/runs"
    cluster.stop("versitygw")


def written(site: Site) -> dict[str, int]:
    """When each file of an artifact was written."""
    files = site.volume.glob("runs/artifacts/*/*")
    return {str(file): file.stat().st_mtime_ns for file in files}


def carried(site: Site, spec: dict[str, Any], meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The status of a run of the spec by real engines, once it is complete."""
    site.apply(**spec, runtimeRef={"name": f"{site.name}-engines"})
    meanwhile()
    site.wait("Complete", seconds=MINUTES * 60)
    return site.status()


def carried_here(site: Site, spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The status after `ixt run` of the same spec on this machine, over the same storage."""
    file = folder / "run.yaml"
    file.write_text(
        dump({"apiVersion": API_VERSION, "kind": "IXTRun", "metadata": {"name": "here"}, "spec": spec})
    )
    env = {**os.environ, "IXT_PVC_ROOT": str(site.volume.parent)}
    command = [str(IXT), "run", str(file), "--workdir", str(folder / "work")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "work" / "status.json").read_text())
    return found


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_the_quickstart_in_pods(cluster: NodeCluster, filled: Site, tmp_path: Path) -> None:
    spec, start = quickstart.spec(), time.time()
    with watching(cluster, tmp_path) as source:
        status = carried(filled, spec, lambda: check_expositions(cluster, filled))
        assert len(filled.pods("pretrain/train/conditioned-s0")) == quickstart.PODS
        # All that it made serves `ixt run` of the same spec: every step finds its key committed.
        before = written(filled)
        here = carried_here(filled, spec, tmp_path)
        assert keys(here) == keys(status)
        assert written(filled) == before
        filled.kubectl.ixt("report", "test", "-o", str(tmp_path / "report.html"))
        assert "<html" in (tmp_path / "report.html").read_text()
        prove(source, filled, start)


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_quickstart_on_an_object_store(filled: Site, bucket: str) -> None:
    status = carried(
        filled, {**quickstart.spec(), "storage": {"uri": bucket, "credentialsSecretRef": {"name": "storage"}}}
    )
    committed = (filled.folder / "s3" / BUCKET / "runs" / "artifacts").glob("*/manifest.json")
    assert set(keys(status).values()) <= {path.parent.name for path in committed}
