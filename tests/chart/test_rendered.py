"""The chart as helm renders it. Needs a helm, no cluster."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml
from make import runs
from make.chart import (
    CHART,
    INSTALLED,
    NAMESPACE,
    RELEASE,
    HelmError,
    Manifest,
    Pod,
    helm,
    lets_in,
    named,
    of_kind,
    rendered,
    selects,
)
from make.kube import pod_problems, problems

from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.controller.app import app
from ixt_operator.generate.crd import crds
from ixt_operator.planner.building import HTTP_PORT, PROGRESS_PORT, RENDEZVOUS_PORT
from ixt_operator.render.builtin_runtimes import BUILTIN
from ixt_operator.render.preview import preview

TWO = "namespaces={team-a,team-b}"
POLICIES = "networkPolicies.enabled=true"
MONITORS = "metrics.monitors.enabled=true"
EVERYTHING = (
    TWO,
    POLICIES,
    MONITORS,
    "networkPolicies.runNamespaces={team-c}",
    "networkPolicies.apiServer.cidrs={10.0.0.1/32}",
    "metrics.monitors.labels.release=prometheus",
    "imagePullSecrets={registry}",
    "podLabels.team=a",
    "podAnnotations.note=b",
    "serviceAccount.annotations.note=c",
    "priorityClassName=high",
    "nodeSelector.pool=a",
    "tolerations[0].operator=Exists",
    "affinity.nodeAffinity.a=b",
)
NOTHING = (
    "crds.install=false",
    "rbac.create=false",
    "rbac.userRoles=false",
    "serviceAccount.create=false",
    "serviceAccount.name=mine",
    "runtimes.cpu.install=false",
    "runtimes.nvidia.install=false",
    "replicas=1",
)
WAYS = [(), (TWO,), EVERYTHING, NOTHING]

CLUSTER_SCOPED = {
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "IXTRuntime",
}


def operator_pod(*settings: str) -> Manifest:
    template = named(rendered(*settings), "Deployment")["spec"]["template"]
    assert isinstance(template, dict)
    return template


@pytest.mark.parametrize("settings", WAYS)
def test_helm_has_nothing_to_say_against_it(settings: tuple[str, ...]) -> None:
    helm("lint", "--strict", str(CHART), *(f"--set={each}" for each in settings))


@pytest.mark.parametrize("settings", WAYS)
def test_every_object_says_where_it_belongs_once(settings: tuple[str, ...]) -> None:
    places = []
    for manifest in rendered(*settings):
        metadata = manifest["metadata"]
        assert ("namespace" in metadata) == (manifest["kind"] not in CLUSTER_SCOPED), metadata
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        places.append((manifest["kind"], metadata.get("namespace"), metadata["name"]))
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("settings", WAYS)
def test_the_operator_keeps_the_restricted_pod_security_standard(settings: tuple[str, ...]) -> None:
    template = operator_pod(*settings)
    assert list(pod_problems(template, token=True)) == []
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert template["spec"]["securityContext"]["runAsUser"] == 65532


def test_ids_may_be_left_to_the_cluster() -> None:
    context = operator_pod("podSecurityContext.runAsUser=null", "podSecurityContext.runAsGroup=null")
    assert context["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize("settings", [(), (TWO, "logLevel=debug")])
def test_the_program_takes_its_arguments(settings: tuple[str, ...]) -> None:
    (container,) = operator_pod(*settings)["spec"]["containers"]
    context = typer.main.get_command(app).make_context("operator", list(container["args"]))
    (port,) = container["ports"]
    assert list(context.params["namespace"]) == (["team-a", "team-b"] if settings else [])
    assert context.params["port"] == port["containerPort"]
    assert context.params["lease_name"] == RELEASE
    assert {probe: container[probe]["httpGet"] for probe in container if probe.endswith("Probe")} == {
        "startupProbe": {"path": "/healthz", "port": port["name"]},
        "readinessProbe": {"path": "/readyz", "port": port["name"]},
        "livenessProbe": {"path": "/healthz", "port": port["name"]},
    }


def test_two_replicas_are_spread_and_one_of_them_stays() -> None:
    manifests = rendered()
    deployment = named(manifests, "Deployment")
    budget = named(manifests, "PodDisruptionBudget")["spec"]
    (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["replicas"] == 2
    assert (budget["maxUnavailable"], spread["topologyKey"]) == (1, "kubernetes.io/hostname")
    for selector in (budget["selector"], spread["labelSelector"], deployment["spec"]["selector"]):
        assert selects(selector, labels)
    assert of_kind(rendered("replicas=1"), "PodDisruptionBudget") == []


# Images


def images(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "image" and isinstance(item, str):
                yield item
            yield from images(item)
    elif isinstance(value, list):
        for item in value:
            yield from images(item)


def test_every_image_comes_from_the_values() -> None:
    digest = "sha256:" + "0" * 64
    manifests = rendered(
        "image.repository=r/operator",
        f"image.digest={digest}",
        "runtimes.cpu.image.repository=r/cpu",
        "runtimes.cpu.image.tag=v3",
        "runtimes.nvidia.image.repository=r/nvidia",
        f"runtimes.nvidia.image.digest={digest}",
    )
    ours = [manifest for manifest in manifests if manifest["kind"] != "CustomResourceDefinition"]
    assert set(images(ours)) == {f"r/operator@{digest}", "r/cpu:v3", f"r/nvidia@{digest}"}


def test_images_are_of_the_charts_version_by_default() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    ours = [manifest for manifest in rendered() if manifest["kind"] != "CustomResourceDefinition"]
    names = ("ixt-operator", "ixt-workloads-cpu", "ixt-workloads-nvidia")
    assert set(images(ours)) == {f"{name}:{version}" for name in names}


# CRDs and runtimes


def test_crds_are_kept_and_otherwise_those_of_the_api() -> None:
    found = {
        manifest["metadata"]["name"]: manifest for manifest in of_kind(rendered(), "CustomResourceDefinition")
    }
    for text in crds().values():
        crd = yaml.safe_load(text)
        chart = found.pop(crd["metadata"]["name"])
        assert chart["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert chart["spec"] == crd["spec"]
    assert found == {}
    assert of_kind(rendered("crds.install=false"), "CustomResourceDefinition") == []


@pytest.mark.parametrize("name", BUILTIN)
def test_a_runtime_is_the_built_in_one(name: str) -> None:
    found = named(
        rendered(f"runtimes.{name}.image.repository=r/x", f"runtimes.{name}.image.tag=v1"), "IXTRuntime", name
    )
    assert IXTRuntime.model_validate(found).spec == BUILTIN[name]("r/x:v1").spec
    names = [
        each["metadata"]["name"] for each in of_kind(rendered(f"runtimes.{name}.install=false"), "IXTRuntime")
    ]
    assert names == [each for each in BUILTIN if each != name]


@pytest.mark.parametrize("name", BUILTIN)
def test_pods_of_runs_keep_the_restricted_pod_security_standard(name: str) -> None:
    runtime = IXTRuntime.model_validate(named(rendered(), "IXTRuntime", name))
    run = runs.run(stages=[runs.stage(train={"numNodes": 2})])
    run = run.model_copy(
        update={"metadata": run.metadata.model_copy(update={"namespace": "team-a", "uid": "u"})}
    )
    assert [found for manifest in preview(run, runtime) for found in problems(manifest)] == []


def test_on_a_cluster_without_the_crds_runtimes_come_last() -> None:
    for runtime in of_kind(rendered(flags=()), "IXTRuntime"):
        annotations = runtime["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "post-install,post-upgrade"
        assert "before-hook-creation" not in annotations["helm.sh/hook-delete-policy"]
        # What helm asks of an object that a release may take over.
        assert annotations["meta.helm.sh/release-name"] == RELEASE
        assert annotations["meta.helm.sh/release-namespace"] == NAMESPACE
    for runtime in of_kind(rendered(flags=INSTALLED), "IXTRuntime"):
        assert runtime["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


# Rights

OF_RUNS = {
    "ixt.dev/ixtruns": "delete get list watch",
    "ixt.dev/ixtruns/status": "update",
    "ixt.dev/ixtruns/finalizers": "update",
    "batch/jobs": "create delete get list watch",
    "apps/deployments": "create delete get list patch watch",
    "/services": "create delete get patch",
    "/configmaps": "create delete get",
    "/pods": "delete get list watch",
    "/pods/status": "patch",
    "/events": "create list",
}
"""What the operator does where runs are. That it is enough: tests/cluster/on_control_plane/test_chart.py."""
OF_RUNTIMES = {"ixt.dev/ixtruntimes": "list watch"}
OF_LEASES = {"coordination.k8s.io/leases": "create", f"coordination.k8s.io/leases={RELEASE}": "get update"}


def rights(role: Manifest) -> dict[str, str]:
    found = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                names = "".join(f"={name}" for name in rule.get("resourceNames", ()))
                found[f"{group}/{resource}{names}"] = " ".join(sorted(rule["verbs"]))
    return found


def granted(manifests: list[Manifest]) -> dict[str, dict[str, str]]:
    """What the operator's account is granted, by namespace; "" is everywhere."""
    account = {"kind": "ServiceAccount", "name": RELEASE, "namespace": NAMESPACE}
    found: dict[str, dict[str, str]] = {}
    for binding in manifests:
        if binding["kind"] in ("RoleBinding", "ClusterRoleBinding") and account in binding["subjects"]:
            space = binding["metadata"].get("namespace", "")
            role = named(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"], space)
            found.setdefault(space, {}).update(rights(role))
    return found


def test_the_operator_of_all_namespaces_may_do_what_it_does_and_no_more() -> None:
    assert granted(rendered()) == {"": OF_RUNTIMES | OF_RUNS, NAMESPACE: OF_LEASES}


def test_the_operator_of_some_namespaces_has_no_rights_in_others() -> None:
    assert granted(rendered(TWO)) == {
        "": OF_RUNTIMES,
        "team-a": OF_RUNS,
        "team-b": OF_RUNS,
        NAMESPACE: OF_LEASES,
    }


def test_an_operator_may_serve_its_own_namespace() -> None:
    found = granted(rendered(f"namespaces={{{NAMESPACE}}}"))
    assert found == {"": OF_RUNTIMES, NAMESPACE: OF_RUNS | OF_LEASES}


@pytest.mark.parametrize("settings", WAYS)
def test_no_rule_has_a_wildcard_or_reads_secrets(settings: tuple[str, ...]) -> None:
    for role in rendered(*settings):
        if role["kind"] in ("Role", "ClusterRole"):
            for right, verbs in rights(role).items():
                assert "*" not in right + verbs
                assert not re.search("secret|node|impersonate|escalate|bind", right + verbs)


def test_users_get_runs_with_the_roles_that_they_have() -> None:
    manifests = rendered()
    edit, view = (named(manifests, "ClusterRole", name) for name in ("ixt-edit", "ixt-view"))
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {label for label in edit["metadata"]["labels"] if label.startswith(prefix)} == {
        f"{prefix}admin",
        f"{prefix}edit",
    }
    assert f"{prefix}view" in view["metadata"]["labels"]
    assert "create" in rights(edit)["ixt.dev/ixtruns"]
    assert set(" ".join(rights(view).values()).split()) == {"get", "list", "watch"}
    readers = named(manifests, "ClusterRoleBinding", "ixt-runtime-view")["subjects"]
    assert [subject["name"] for subject in readers] == ["system:authenticated"]
    assert not [
        each for each in rendered("rbac.userRoles=false") if each["metadata"]["name"].startswith("ixt-view")
    ]


def test_an_account_of_ones_own_gets_the_rights() -> None:
    manifests = rendered("serviceAccount.create=false", "serviceAccount.name=mine")
    assert of_kind(manifests, "ServiceAccount") == []
    assert named(manifests, "ClusterRoleBinding")["subjects"][0]["name"] == "mine"
    with pytest.raises(HelmError, match=r"serviceAccount\.name: is required"):
        rendered("serviceAccount.create=false")


# Network and metrics


def pods_of_a_run(namespace: str) -> dict[str, Pod]:
    """A pod of each role of a run that trains on two nodes, as the operator makes them."""
    run = runs.run(stages=[runs.stage(train={"numNodes": 2})])
    found = {}
    for manifest in preview(run, BUILTIN["cpu"]("x")):
        if manifest["kind"] in ("Job", "Deployment"):
            pod = Pod(namespace, manifest["spec"]["template"])
            found[pod.labels["app.kubernetes.io/component"]] = pod
    return found


STRANGER: Manifest = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}


def test_policies_let_through_what_a_run_needs_and_nothing_else() -> None:
    manifests = rendered(TWO, POLICIES)
    policies = of_kind(manifests, "NetworkPolicy")
    operator = Pod(NAMESPACE, named(manifests, "Deployment")["spec"]["template"])
    sources = {
        **pods_of_a_run("team-a"),
        "operator": operator,
        "monitoring": Pod("monitoring", STRANGER),
        "stranger": Pod("team-a", STRANGER),
        "other team's run": pods_of_a_run("team-b")["worker"],
    }
    targets = {"operator": operator, **pods_of_a_run("team-a")}
    ports = {"metrics": 8080, "progress": PROGRESS_PORT, "http": HTTP_PORT, "rendezvous": RENDEZVOUS_PORT}
    ports["rank"] = 40_000
    seen = {
        (source, target, name)
        for source, from_ in sources.items()
        for target, to in targets.items()
        for name, port in ports.items()
        if (name in to.ports or (name, target) == ("rank", "trainer")) and lets_in(policies, from_, to, port)
    }
    run = ("judge", "worker", "trainer", "evaluator")
    assert seen == {
        ("monitoring", "operator", "metrics"),
        *((source, step, "progress") for source in ("operator", "monitoring") for step in run[1:]),
        ("trainer", "trainer", "progress"),
        ("trainer", "trainer", "rendezvous"),
        ("trainer", "trainer", "rank"),
        *((source, "judge", "http") for source in (*run, "monitoring")),
    }


def test_the_operator_reaches_the_api_server_and_progress_only() -> None:
    manifests = rendered(TWO, POLICIES, "networkPolicies.apiServer.cidrs={10.0.0.1/32}")
    policy = named(manifests, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    server, progress = policy["egress"]
    assert server["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    assert [entry["port"] for entry in server["ports"]] == [443, 6443]
    (peer,) = progress["to"]
    assert progress["ports"] == [{"port": PROGRESS_PORT}]
    assert all(selects(peer["podSelector"], pod.labels) for pod in pods_of_a_run("team-a").values())
    spaces = [
        name
        for name in ("team-a", "team-b", "team-c")
        if selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": name})
    ]
    assert spaces == ["team-a", "team-b"]
    (everywhere,) = named(rendered(POLICIES), "NetworkPolicy")["spec"]["egress"][1]["to"]
    assert everywhere["namespaceSelector"] == {}


def test_policies_are_an_option() -> None:
    assert of_kind(rendered(), "NetworkPolicy") == []
    spaces = {each["metadata"]["namespace"] for each in of_kind(rendered(POLICIES), "NetworkPolicy")}
    assert spaces == {NAMESPACE}
    listed = rendered(POLICIES, "networkPolicies.runNamespaces={team-c}")
    assert {each["metadata"]["namespace"] for each in of_kind(listed, "NetworkPolicy")} == {
        NAMESPACE,
        "team-c",
    }


def test_monitors_find_operator_and_runs() -> None:
    manifests = rendered(MONITORS, "metrics.monitors.labels.release=prometheus")
    service = named(manifests, "Service", f"{RELEASE}-metrics")
    operator = named(manifests, "Deployment")["spec"]["template"]
    assert selects({"matchLabels": service["spec"]["selector"]}, operator["metadata"]["labels"])
    monitor = named(manifests, "ServiceMonitor")
    assert selects(monitor["spec"]["selector"], service["metadata"]["labels"])
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert [entry["port"] for entry in monitor["spec"]["endpoints"]] == [
        port["name"] for port in service["spec"]["ports"]
    ]
    of_runs = named(manifests, "PodMonitor", f"{RELEASE}-runs")["spec"]
    scraped = {entry["port"] for entry in of_runs["podMetricsEndpoints"]}
    for pod in pods_of_a_run("team-a").values():
        assert selects(of_runs["selector"], pod.labels)
        assert len(scraped & pod.ports.keys()) == 1
    assert of_kind(rendered(), "ServiceMonitor") == of_kind(rendered(), "PodMonitor") == []


def test_the_operator_is_no_run_to_itself() -> None:
    """It watches what is managed by ixt-operator; policies and monitors pick runs by the name ixt."""
    labels = operator_pod()["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] != "ixt-operator"
    assert labels["app.kubernetes.io/name"] != "ixt"


# Words


def test_a_misspelt_value_is_named() -> None:
    with pytest.raises(HelmError, match="replica' not allowed"):
        rendered("replica=3")


def notes(*settings: str) -> str:
    text = helm("install", RELEASE, str(CHART), "--dry-run=client", *(f"--set={each}" for each in settings))
    return text.partition("NOTES:")[2]


def test_the_notes_teach_the_next_step() -> None:
    assert f"kubectl -n {NAMESPACE} rollout status deployment/{RELEASE}" in notes()
    assert "kubectl apply -n team-a -f examples/quickstart/run.yaml" in notes(TWO)
    assert "networkPolicies.runNamespaces" in notes(POLICIES)
    assert "networkPolicies.runNamespaces" not in notes(POLICIES, TWO)
    assert "crds.install is false" in notes("crds.install=false")
    assert "-f examples/quickstart/data.yaml" in notes()
    theirs = notes("runtimes.cpu.image.repository=registry.example.com/cpu", "runtimes.cpu.image.tag=v1")
    data = (CHART.parents[1] / "examples/quickstart/data.yaml").read_text()
    (ours,) = re.findall("image: (.+)", data)
    assert "-f examples/quickstart/data.yaml" not in theirs
    assert f"sed 's|{ours}|registry.example.com/cpu:v1|'" in theirs
    assert (CHART.parents[1] / "examples/quickstart/run.yaml").exists()
