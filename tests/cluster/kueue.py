"""Kueue on a control plane: its manager as a process, installed by the manifests of its own release.

It works as on any cluster, with its webhooks in place and certificates of its own making. What differs is
where it runs: its Service names this machine instead of pods, and no kubelet mounts its certificates. It acts
as the administrator, since its rights are not what is tested.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from make import loopback

from cluster import binaries
from cluster.base import serves
from cluster.control_plane import ControlPlane, control_plane

NAMESPACE = "kueue-system"
SERVICE = "kueue-webhook-service"
CERTIFICATES = f"/api/v1/namespaces/{NAMESPACE}/secrets/kueue-webhook-server-cert"

Object = dict[str, Any]


@contextmanager
def kueue_plane(folder: Path, crds: Path) -> Iterator[ControlPlane]:
    """A control plane with the CRDs of a folder and with Kueue, ready for use. It is Kueue's own: on a shared
    one its webhooks would have to be asked about every Job, by all tests and for ever."""
    with loopback.part() as part:
        webhooks, health = loopback.port(part), loopback.port(part, 1)
        installed = _release(webhooks)
        all_crds, cluster = folder / "crds", folder / "cluster"
        shutil.copytree(crds, all_crds)
        (all_crds / "kueue.yaml").write_text(yaml.safe_dump_all(installed.pop("CustomResourceDefinition")))
        cluster.mkdir()
        with control_plane(cluster, crds=all_crds) as plane:
            plane.kubectl(NAMESPACE).apply(*(entry for entries in installed.values() for entry in entries))
            (cluster / "kueue.json").write_text(json.dumps(_configuration(webhooks, health)))
            command = [str(binaries.path("kueue")), "--config=kueue.json", "--kubeconfig=admin.kubeconfig"]
            plane.run("kueue", command)
            plane.until(lambda: _mount(plane, cluster / "kueue"), "certificates of Kueue")
            plane.until(lambda: serves(f"http://127.0.0.1:{health}/readyz"), "Kueue")
            yield plane


def _release(port: int) -> dict[str, list[Object]]:
    """What of the release's manifests is needed here, by kind, with its webhooks at a port of loopback."""
    kinds = (
        "Namespace",
        "Secret",
        "CustomResourceDefinition",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    )
    command = [str(binaries.path("kubectl")), "kustomize", str(binaries.sources("kueue") / "config/default")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, list[Object]] = {kind: [] for kind in kinds}
    for manifest in yaml.safe_load_all(done.stdout):
        if manifest["kind"] in found:
            found[manifest["kind"]].append(manifest)
            for client in _clients(manifest):
                client["service"]["port"] = port
    service = {"type": "ExternalName", "externalName": "localhost"}
    metadata = {"name": SERVICE, "namespace": NAMESPACE}
    found["Service"] = [{"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}]
    return found


def _clients(manifest: Object) -> Iterator[Object]:
    """Where a manifest says how a webhook is reached."""
    for webhook in manifest.get("webhooks", ()):
        yield webhook["clientConfig"]
    conversion = manifest.get("spec", {}).get("conversion", {})
    if "webhook" in conversion:
        yield conversion["webhook"]["clientConfig"]


def _configuration(webhooks: int, health: int) -> Object:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": webhooks, "certDir": "kueue"},
        "leaderElection": {"leaderElect": False},
        "featureGates": {"VisibilityOnDemand": False},
        "integrations": {"frameworks": ["batch/job", "pod"]},
    }


def _mount(plane: ControlPlane, folder: Path) -> bool:
    """Write the certificates, once Kueue has made them, to where it waits for them."""
    try:
        data = json.loads(plane.get(CERTIFICATES)).get("data", {})
    except OSError:
        return False
    if "tls.crt" not in data:
        return False
    folder.mkdir(mode=0o700)
    for name in sorted(data, reverse=True):  # it waits for tls.crt
        (folder / name).write_bytes(base64.b64decode(data[name]))
    return True
