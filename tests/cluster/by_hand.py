"""What people expect of a cluster, for the one that `make cluster-up` starts: README's lines run on it as
they stand, from `kubectl apply` on.

It has a default StorageClass, whose volumes are folders of this machine, and the operator, installed by its
chart. What bears the name of the image of a run's pods is empty: an admission policy mounts this machine's
/usr and the virtual environment into the pods that name it. Pod Security's restricted level forbids such
mounts, so namespaces of that level take none of these pods.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import certifi
from make.chart import CHART, RELEASE, helm

from cluster import images, node, operator_image, python, quickstart
from cluster.volumes import volume

VERSION = version("ixt")
OPERATOR = f"ixt-operator:{VERSION}"
WORKLOADS = f"ixt-workloads-cpu:{VERSION}"
VOLUMES = 8
CLASS = "folders"


def furnish(cluster: node.NodeCluster) -> None:
    """Bring all of it onto a node."""
    operator, workloads = cluster.folder / "operator.tar", cluster.folder / "workloads.tar"
    images.host_python(
        workloads,
        f"docker.io/library/{WORKLOADS}",
        {
            "PATH": f"{Path(python.EXECUTABLE).parent}:/usr/bin:/bin",
            "PYTHONPATH": f"{python.ROOT / 'workloads'}",
            "SSL_CERT_FILE": certifi.where(),
        },
        {"opt/ixt/quickstart": f"->{quickstart.FOLDER}"},
    )
    operator_image.build(operator, OPERATOR)
    for archive in (operator, workloads):
        node.load_images(cluster.sandbox, archive)
        archive.unlink()
    folders = [cluster.folder / "volumes" / str(number) for number in range(VOLUMES)]
    for folder in folders:
        folder.mkdir(parents=True)
        folder.chmod(0o777)  # Pods are not root.
    volumes = [
        volume(
            f"{CLASS}-{folder.name}",
            folder,
            "100Gi",
            storageClassName=CLASS,
            persistentVolumeReclaimPolicy="Retain",
        )
        for folder in folders
    ]
    cluster.kubectl().apply(_storage_class(), *volumes, *_mounting())
    new = ("--install", "--create-namespace", "--wait", "--timeout=5m")
    helm("upgrade", RELEASE, str(CHART), *new, kubeconfig=cluster.kubeconfig)


def _storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
    }


def _mounting() -> tuple[dict[str, Any], dict[str, Any]]:
    """The policy that mounts this machine's Python, and its binding."""
    name = "python-of-the-host"
    meant = f"c.image == {json.dumps(WORKLOADS)}"
    mounts, volumes = [], []
    for number, folder in enumerate(python.folders()):
        path = json.dumps(folder)
        mounts.append(
            "Object.spec.containers.volumeMounts"
            f'{{name: "python-{number}", mountPath: {path}, readOnly: true}}'
        )
        volumes.append(
            f'Object.spec.volumes{{name: "python-{number}", '
            f"hostPath: Object.spec.volumes.hostPath{{path: {path}}}}}"
        )
    containers = (
        f"object.spec.containers.filter(c, {meant}).map(c, "
        f"Object.spec.containers{{name: c.name, volumeMounts: [{', '.join(mounts)}]}})"
    )
    expression = f"Object{{spec: Object.spec{{volumes: [{', '.join(volumes)}], containers: {containers}}}}}"
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {
        "matchConstraints": {"resourceRules": [pods]},
        "matchConditions": [{"name": "image", "expression": f"object.spec.containers.exists(c, {meant})"}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
    }
    group, kind = "admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy"
    return (
        {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec},
        {
            "apiVersion": group,
            "kind": f"{kind}Binding",
            "metadata": {"name": name},
            "spec": {"policyName": name},
        },
    )
