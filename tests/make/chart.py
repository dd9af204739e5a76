"""The chart as helm renders it, and what its network policies let through."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import binaries

Manifest = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts" / "ixt-operator"
RELEASE, NAMESPACE = "ixt-operator", "ixt-system"
INSTALLED = ("--api-versions=ixt.dev/v1alpha1/IXTRuntime",)
"""What helm knows of a cluster that has the CRDs."""


class HelmError(AssertionError):
    """helm failed; the text is what it wrote to stderr."""


def helm(*arguments: str, kubeconfig: Path | str = os.devnull) -> str:
    """What helm prints. Skips the test where there is no helm."""
    program = binaries.find("helm")
    if program is None:
        pytest.skip("helm is not built: `make test-control-plane` builds it from its Go module")
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [program, *arguments, f"--kubeconfig={kubeconfig}", f"--namespace={NAMESPACE}"],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    if done.returncode:
        raise HelmError(done.stderr)
    return done.stdout


def rendered(*settings: str, flags: Iterable[str] = INSTALLED) -> list[Manifest]:
    """The chart's objects; `settings` are name=value."""
    text = helm("template", RELEASE, str(CHART), *flags, *(f"--set={each}" for each in settings))
    return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]


def named(manifests: Iterable[Manifest], kind: str, name: str = RELEASE, namespace: str = "") -> Manifest:
    """The one object of a kind and name (in a namespace, if it is given)."""
    (found,) = (
        each
        for each in manifests
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
        and namespace in ("", each["metadata"].get("namespace"))
    )
    return found


def of_kind(manifests: Iterable[Manifest], kind: str) -> list[Manifest]:
    """All objects of a kind."""
    return [each for each in manifests if each["kind"] == kind]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector picks labels."""
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In", "others are not understood here"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


class Pod:
    """A pod as network policies see it."""

    def __init__(self, namespace: str, template: Manifest) -> None:
        self.namespace = namespace
        self.labels: dict[str, str] = template["metadata"].get("labels", {})
        self.ports = {
            port["name"]: port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports", ())
        }


def lets_in(policies: Iterable[Manifest], source: Pod, target: Pod, port: int) -> bool:
    """Whether policies let a pod reach another's port: all is open as long as none picks the target."""
    picking = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == target.namespace
        and selects(policy["spec"]["podSelector"], target.labels)
    ]
    rules = [rule for spec in picking for rule in spec.get("ingress", ())]
    return not picking or any(_opens(rule, source, target, port) for rule in rules)


def _opens(rule: Manifest, source: Pod, target: Pod, port: int) -> bool:
    ports = [target.ports.get(each["port"], each["port"]) for each in rule.get("ports", ())]
    return (not ports or port in ports) and any(_is_peer(peer, source, target) for peer in rule["from"])


def _is_peer(peer: Manifest, source: Pod, target: Pod) -> bool:
    if "namespaceSelector" in peer:
        space = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": source.namespace})
    else:
        space = source.namespace == target.namespace
    return space and selects(peer.get("podSelector", {}), source.labels)
