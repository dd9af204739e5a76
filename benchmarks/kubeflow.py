"""Kubeflow Trainer and JobSet on a control plane, as their releases deploy them but for addresses: webhooks,
leader election and limits are theirs; keys come from here, and metrics are not served."""

import base64
import json
from pathlib import Path
from typing import Any

import yaml
from cluster import binaries, certificates
from cluster.base import serves
from cluster.control_plane import ControlPlane
from ports import free_port

from ixt_operator.adapters.kubernetes.client import Object, Resource

TRAIN_JOBS = Resource("trainer.kubeflow.org/v1alpha1", "trainjobs")
RUNTIME = "torch-distributed"
SPACE = "default"


def train_job(name: str) -> Object:
    """A TrainJob over the runtime for PyTorch."""
    metadata = {"name": name, "namespace": SPACE}
    spec = {"runtimeRef": {"name": RUNTIME}, "trainer": {"numNodes": 1, "image": "stub:1"}}
    return {"apiVersion": TRAIN_JOBS.group_version, "kind": "TrainJob", "metadata": metadata, "spec": spec}


def crds(folder: Path) -> Path:
    """The CRDs of both, in a new folder. JobSet's names a conversion webhook, for which there is no second
    version to convert."""
    target = folder / "crds"
    target.mkdir(exist_ok=True)
    for source in (
        binaries.sources("trainer") / "manifests/base/crds",
        binaries.sources("jobset") / "config/components/crd/bases",
    ):
        for file in source.glob("*_*.yaml"):
            (target / file.name).write_bytes(file.read_bytes())
    return target


def start(plane: ControlPlane, requests_per_second: int) -> list[str]:
    """Start both and wait until they serve; their programs' names. `requests_per_second` limits Trainer's."""
    authority = certificates.Authority.create(plane.pki, "webhooks-ca")
    serving = plane.folder / "k8s-webhook-server/serving-certs"
    serving.mkdir(parents=True)
    authority.issue("webhooks", "webhooks", hosts=("127.0.0.1",))
    for kind in ("crt", "key"):
        (serving / f"tls.{kind}").write_bytes((plane.pki / f"webhooks.{kind}").read_bytes())
    # Where controller-runtime looks for the keys of webhooks.
    environment = ["env", f"KUBECONFIG={plane.kubeconfig}", f"TMPDIR={plane.folder}"]

    ports = {name: (free_port(), free_port()) for name in ("jobset", "trainer")}
    configured = {name: _addresses(*pair) for name, pair in ports.items()}
    jobset = configured["jobset"] | {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": True, "resourceNamespace": SPACE},
        "internalCertManagement": {"enable": False},
    }
    shipped = yaml.safe_load(
        (binaries.sources("trainer") / "manifests/base/manager/controller_manager_config.yaml").read_text()
    )
    trainer = shipped | configured["trainer"]
    trainer["leaderElection"]["resourceNamespace"] = SPACE
    trainer["certManagement"] = {"enable": False}
    trainer["clientConnection"] = {"qps": requests_per_second, "burst": 2 * requests_per_second}
    flags = {"jobset": ["--leader-elect"], "trainer": ["--zap-log-level=2"]}
    for name, configuration in (("jobset", jobset), ("trainer", trainer)):
        file = plane.folder / f"{name}.yaml"
        file.write_text(json.dumps(configuration))
        plane.run(name, [*environment, str(binaries.path(name)), f"--config={file}", *flags[name]])
    for name, (_, health) in ports.items():
        url = f"http://127.0.0.1:{health}/readyz"
        plane.until(lambda url=url: serves(url), f"readiness of {name}")  # type: ignore[misc]
    authorities = base64.b64encode((plane.pki / "webhooks-ca.crt").read_bytes()).decode()
    for name, folder in (
        ("jobset", binaries.sources("jobset") / "config/default"),
        ("trainer", binaries.sources("trainer") / "manifests/base/webhook"),
    ):
        documents = yaml.safe_load_all(plane.kubectl()("kustomize", str(folder)))
        hooks = [found for found in documents if found["kind"].endswith("WebhookConfiguration")]
        for hook in (hook for found in hooks for hook in found["webhooks"]):
            path = hook["clientConfig"]["service"]["path"]
            url = f"https://127.0.0.1:{ports[name][0]}{path}"
            hook["clientConfig"] = {"url": url, "caBundle": authorities}
        plane.kubectl().apply(*hooks)
    plane.kubectl()(
        "apply", "-f", str(binaries.sources("trainer") / "manifests/base/runtimes/torch_distributed.yaml")
    )
    return [*ports]


def _addresses(webhooks: int, health: int) -> dict[str, Any]:
    return {
        "webhook": {"port": webhooks, "host": "127.0.0.1"},
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
    }
