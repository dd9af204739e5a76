"""Workloads for a test cluster, as small as they can be. Their image is a static busybox."""

from typing import Any

Manifest = dict[str, Any]

BUSYBOX = "ixt.test/busybox:1"


def container(*command: str, image: str = BUSYBOX, **fields: Any) -> Manifest:
    """A container that runs a command."""
    return {"name": "main", "image": image, "imagePullPolicy": "Never", "command": [*command], **fields}


def shell(script: str, **fields: Any) -> Manifest:
    """A container that runs a script."""
    return container("sh", "-euc", script, **fields)


def pod(name: str, main: Manifest, **spec: Any) -> Manifest:
    """A pod that runs once. Its label `app` is its name."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _labelled(name), "spec": _spec(main, spec)}


def indexed_job(name: str, indexes: int, main: Manifest | str, **spec: Any) -> Manifest:
    """An Indexed Job whose pods are found as NAME-INDEX.NAME when there is a `headless` Service."""
    main = container(main) if isinstance(main, str) else main
    template = {"metadata": {"labels": {"app": name}}, "spec": {"subdomain": name, **_spec(main, spec)}}
    counts = {"completions": indexes, "parallelism": indexes, "completionMode": "Indexed", "backoffLimit": 0}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _labelled(name),
        "spec": {**counts, "template": template},
    }


def deployment(name: str, replicas: int, main: Manifest, **spec: Any) -> Manifest:
    """A Deployment."""
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {**_spec(main, spec), "restartPolicy": "Always"},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _labelled(name),
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def service(name: str, **spec: Any) -> Manifest:
    """A Service for the pods of that name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _labelled(name),
        "spec": {"selector": {"app": name}, **spec},
    }


def headless(name: str) -> Manifest:
    """The Service by which pods of an Indexed Job find each other, ready or not."""
    return service(name, clusterIP="None", publishNotReadyAddresses=True)


def _labelled(name: str) -> Manifest:
    return {"name": name, "labels": {"app": name}}


def _spec(main: Manifest, spec: Manifest) -> Manifest:
    return {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": [main], **spec}
