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

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.controller.app import app
from ixt_operator.generate.crd import crds
from ixt_operator.planner.building import HTTP_PORT, PROGRESS_PORT, RENDEZVOUS_PORT
from ixt_operator.render.builtin_runtimes import BUILTIN_RUNTIMES, LIMITS
from ixt_operator.render.network import Network, policy
from ixt_operator.render.preview import preview
from ixt_workloads.contract.kinds import Role

TWO = "namespaces={team-a,team-b}"
POLICIES = "networkPolicies.enabled=true"
MONITORS = "metrics.monitors.enabled=true"
PODS = ("metrics.monitors.judges=true", "metrics.monitors.steps=true")
SECURE = "metrics.secure.enabled=true"
EVERYTHING = (
    TWO,
    POLICIES,
    MONITORS,
    *PODS,
    SECURE,
    "metrics.annotations=true",
    "dashboards.enabled=true",
    "dashboards.grafanaOperator.enabled=true",
    "alerts.enabled=true",
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
    "priorityClass.create=false",
)
WAYS = [(), (TWO,), EVERYTHING, NOTHING]

CLUSTER_SCOPED = {
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "IXTRuntime",
    "PriorityClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
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


@pytest.mark.parametrize("settings", [(), (TWO, "logLevel=debug"), (TWO, SECURE)])
def test_the_program_takes_its_arguments(settings: tuple[str, ...]) -> None:
    pod = operator_pod(*settings)["spec"]
    (container,) = pod["containers"]
    context = typer.main.get_command(app).make_context("operator", list(container["args"]))
    port, *metrics = container["ports"]
    assert list(context.params["namespace"]) == (["team-a", "team-b"] if settings else [])
    assert context.params["port"] == port["containerPort"]
    assert bool(metrics) == (SECURE in settings)
    for each in metrics:
        (mount,) = container["volumeMounts"]
        assert each["containerPort"] == context.params["metrics_port"]
        assert mount["mountPath"] == str(context.params["metrics_certificate"])
        assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]
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


@pytest.mark.parametrize("name", BUILTIN_RUNTIMES)
def test_a_runtime_is_the_built_in_one(name: str) -> None:
    found = named(
        rendered(f"runtimes.{name}.image.repository=r/x", f"runtimes.{name}.image.tag=v1"), "IXTRuntime", name
    )
    assert IXTRuntime.model_validate(found).spec == BUILTIN_RUNTIMES[name]("r/x:v1").spec
    names = [
        each["metadata"]["name"] for each in of_kind(rendered(f"runtimes.{name}.install=false"), "IXTRuntime")
    ]
    assert names == [each for each in BUILTIN_RUNTIMES if each != name]


@pytest.mark.parametrize("name", BUILTIN_RUNTIMES)
def test_every_pod_of_a_runtime_is_limited_as_the_values_say(name: str) -> None:
    found = named(
        rendered(f"runtimes.{name}.limits.memory=7Gi", f"runtimes.{name}.limits.shm=3Gi"), "IXTRuntime", name
    )
    for role in IXTRuntime.model_validate(found).spec.roles:
        spec = role.template["spec"]
        (main,) = spec["containers"]
        sizes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in spec["volumes"]}
        assert sizes["shm"] == "3Gi"
        assert sizes.keys() == {"tmp", "cache", "shm"}
        limit = LIMITS[name].worker_memory if role.name == "Worker" else "7Gi"
        assert main["resources"]["limits"]["memory"] == limit


@pytest.mark.parametrize("name", BUILTIN_RUNTIMES)
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


# Leases, priorities, clean-up


def arguments(*settings: str) -> dict[str, object]:
    (container,) = operator_pod(*settings)["spec"]["containers"]
    return typer.main.get_command(app).make_context("operator", list(container["args"])).params


def test_times_of_the_lease_are_those_of_kubernetes_and_can_be_set() -> None:
    found = arguments()
    assert [found[name] for name in ("lease_duration", "renew_deadline", "retry_period")] == [15, 10, 2]
    found = arguments("lease.leaseDuration=60", "lease.renewDeadline=40", "lease.retryPeriod=5")
    assert [found[name] for name in ("lease_duration", "renew_deadline", "retry_period")] == [60, 40, 5]


@pytest.mark.parametrize("seconds", [None, 0, 86_400])
def test_finished_runs_may_be_deleted_by_default(seconds: int | None) -> None:
    settings = () if seconds is None else (f"ttlSecondsAfterFinished={seconds}",)
    assert arguments(*settings)["ttl_seconds_after_finished"] == seconds


def test_the_operator_has_a_priority_of_its_own_or_another() -> None:
    assert named(rendered(), "PriorityClass")["value"] == 1_000_000
    assert operator_pod()["spec"]["priorityClassName"] == RELEASE
    assert operator_pod("priorityClassName=high")["spec"]["priorityClassName"] == "high"
    without = "priorityClass.create=false"
    assert "priorityClassName" not in operator_pod(without)["spec"]
    assert of_kind(rendered(without), "PriorityClass") == []


# Rights

OF_RUNS = {
    "ixt.dev/ixtruns": "delete get list watch",
    "ixt.dev/ixtruns/status": "update",
    "ixt.dev/ixtruns/finalizers": "update",
    "batch/jobs": "create delete get list watch",
    "apps/deployments": "create delete get list patch watch",
    "/services": "create delete get patch",
    "/configmaps": "create delete get",
    "/pods": "delete get list patch watch",
    "/pods/status": "patch",
    "/events": "create list",
    "/secrets": "create",
    "/namespaces": "get",
    "networking.k8s.io/networkpolicies": "create patch",
    "visibility.kueue.x-k8s.io/localqueues/pendingworkloads": "get",
}
"""What the operator does where runs are. That it is enough: tests/cluster/on_control_plane/test_chart.py."""
OF_REVIEWS = {
    "authentication.k8s.io/tokenreviews": "create",
    "authorization.k8s.io/subjectaccessreviews": "create",
}
OF_RUNTIMES = {"ixt.dev/ixtruntimes": "list watch", "/nodes": "get"}
OF_LEASES = {"coordination.k8s.io/leases": "create", f"coordination.k8s.io/leases={RELEASE}": "get update"}


def rights(role: Manifest) -> dict[str, str]:
    found = {}
    for rule in role["rules"]:
        for group in rule.get("apiGroups", ()):
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


def test_an_operator_of_all_namespaces_writes_into_none_of_the_clusters_own() -> None:
    policy = named(rendered("serviceAccount.name=mine"), "ValidatingAdmissionPolicy")["spec"]
    (selected,) = policy["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert "kube-system" in selected["values"]
    assert policy["matchConditions"][0]["expression"].endswith(f"'system:serviceaccount:{NAMESPACE}:mine'")
    for settings in ((TWO,), ("rbac.create=false",)):
        assert of_kind(rendered(*settings), "ValidatingAdmissionPolicy") == []
    assert of_kind(rendered(TWO), "ValidatingAdmissionPolicyBinding") == []


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
                assert right != "/secrets" or verbs == "create"
                assert not re.search("secrets/|nodes/|impersonate|escalate|bind", right + verbs)
                assert right != "/nodes" or verbs == "get"


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


def run_in(namespace: str, uid: str) -> IXTRun:
    """A run that trains on two nodes."""
    run = runs.run(stages=[runs.stage(train={"numNodes": 2})])
    place = {"namespace": namespace, "uid": uid}
    return run.model_copy(update={"metadata": run.metadata.model_copy(update=place)})


def pods_of_a_run(namespace: str, uid: str = "one") -> dict[str, Pod]:
    """A pod of each role of a run, as the operator makes them."""
    found = {}
    for manifest in preview(run_in(namespace, uid), BUILTIN_RUNTIMES["cpu"]("x")):
        if manifest["kind"] in ("Job", "Deployment"):
            pod = Pod(namespace, manifest["spec"]["template"])
            found[pod.labels["app.kubernetes.io/component"]] = pod
    return found


def policies_of(run: IXTRun, network: Network) -> list[Manifest]:
    """The policies of a run that the operator makes with its children."""
    return [policy(run, role, network) for role in Role]


STRANGER: Manifest = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}


@pytest.mark.parametrize("whose", ["both", "the run's", "the chart's"])
def test_policies_let_through_what_a_run_needs_and_nothing_else(whose: str) -> None:
    """Those of the namespace by themselves, those of the run by themselves, and both together."""
    per_run = whose != "the chart's"
    manifests = rendered(TWO, f"networkPolicies.perRun={str(per_run).lower()}")
    policies = of_kind(manifests, "NetworkPolicy")
    if whose == "the run's":
        policies = [each for each in policies if each["metadata"]["namespace"] == NAMESPACE]
    if per_run:
        for namespace in ("team-a", "team-b"):
            policies += policies_of(run_in(namespace, "one"), Network(NAMESPACE, ("monitoring",)))
    operator = Pod(NAMESPACE, named(manifests, "Deployment")["spec"]["template"])
    sources = {
        **pods_of_a_run("team-a"),
        "operator": operator,
        "monitoring": Pod("monitoring", STRANGER),
        "stranger": Pod("team-a", STRANGER),
        "other team's run": pods_of_a_run("team-b")["worker"],
    }
    if per_run:
        others = pods_of_a_run("team-a", "another")
        sources |= {f"another run's {role}": pod for role, pod in others.items()}
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


def test_the_operator_makes_policies_of_runs_where_the_chart_says_so() -> None:
    found = arguments("networkPolicies.monitoringNamespaces={monitoring,prom}")
    assert (found["network_policies"], found["monitoring_namespace"]) == (True, ["monitoring", "prom"])
    for off in ("networkPolicies.enabled=false", "networkPolicies.perRun=false"):
        assert arguments(off)["network_policies"] is False
        assert "networking.k8s.io/networkpolicies" not in granted(rendered(off))[""]


def test_a_policy_of_a_run_goes_with_it_and_is_sound() -> None:
    for found in policies_of(run_in("team-a", "one"), Network(NAMESPACE)):
        assert list(problems(found)) == []
        (owner,) = found["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("IXTRun", "one")


def test_policies_are_made_unless_they_are_turned_off() -> None:
    assert of_kind(rendered("networkPolicies.enabled=false"), "NetworkPolicy") == []
    spaces = {each["metadata"]["namespace"] for each in of_kind(rendered(), "NetworkPolicy")}
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
    assert monitor["spec"]["endpoints"][0]["honorLabels"] is True
    assert of_kind(manifests, "PodMonitor") == []
    assert of_kind(rendered(*PODS), "ServiceMonitor") == of_kind(rendered(*PODS), "PodMonitor") == []


def test_pods_of_runs_are_found_each_by_its_monitor() -> None:
    manifests = rendered(TWO, MONITORS, *PODS)
    found: dict[str, dict[str, str]] = {}
    for which in ("judges", "steps"):
        monitor = named(manifests, "PodMonitor", f"{RELEASE}-{which}")["spec"]
        assert monitor["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}
        (endpoint,) = monitor["podMetricsEndpoints"]
        for role, pod in pods_of_a_run("team-a").items():
            if selects(monitor["selector"], pod.labels) and endpoint["port"] in pod.ports:
                assert role not in found
                found[role] = {
                    each["targetLabel"]: pod.labels.get(_label_of(each["sourceLabels"]), "")
                    for each in endpoint.get("relabelings", ())
                    if "targetLabel" in each
                } | {label: pod.labels.get(label, "") for label in monitor.get("podTargetLabels", ())}
    assert found["judge"] == {"run": "test", "stage": "pretrain"}
    # Without the label `run`, by which dashboards find the operator's series of the same steps.
    assert found["trainer"] == {
        "ixt.dev/run": "test", "ixt.dev/stage": "pretrain", "ixt.dev/kind": "Train",
        "ixt.dev/arm": "conditioned", "ixt.dev/seed": "0",
    }  # fmt: skip
    assert found.keys() == {"judge", "worker", "trainer", "evaluator"}
    everywhere = named(rendered(MONITORS, *PODS), "PodMonitor", f"{RELEASE}-steps")["spec"]
    assert everywhere["namespaceSelector"] == {"any": True}


def _label_of(sources: list[str]) -> str:
    """The label of a pod that Prometheus knows by a name of its own."""
    (source,) = sources
    return source.replace("__meta_kubernetes_pod_label_ixt_dev_", "ixt.dev/")


def test_annotations_are_for_who_goes_by_them() -> None:
    assert "annotations" not in operator_pod()["metadata"]
    plain = operator_pod("metrics.annotations=true", "podAnnotations.note=b")["metadata"]["annotations"]
    assert plain == {
        "note": "b", "prometheus.io/scrape": "true", "prometheus.io/port": "8080",
        "prometheus.io/path": "/metrics",
    }  # fmt: skip
    secure = operator_pod("metrics.annotations=true", SECURE)["metadata"]["annotations"]
    assert (secure["prometheus.io/port"], secure["prometheus.io/scheme"]) == ("8443", "https")


def test_secure_metrics_have_a_certificate_for_their_service_and_ask_the_api_server() -> None:
    manifests = rendered(SECURE, MONITORS)
    host = f"{RELEASE}-metrics.{NAMESPACE}.svc"
    secret = named(manifests, "Secret", f"{RELEASE}-metrics-tls")
    assert secret["data"].keys() == {"tls.crt", "tls.key", "ca.crt"}
    (endpoint,) = named(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]["serverName"]) == ("https", host)
    assert endpoint["tlsConfig"]["ca"]["secret"]["name"] == secret["metadata"]["name"]
    assert granted(manifests)[""] == OF_RUNTIMES | OF_RUNS | OF_REVIEWS
    (port,) = named(manifests, "Service", f"{RELEASE}-metrics")["spec"]["ports"]
    assert port["port"] == 8443


def test_the_token_of_a_scrape_is_that_of_an_account_that_may_read_metrics_and_nothing_else() -> None:
    manifests = rendered(SECURE, MONITORS)
    (endpoint,) = named(manifests, "ServiceMonitor")["spec"]["endpoints"]
    # Files of Prometheus' own container are what many refuse to monitors.
    assert not {"bearerTokenFile", "bearerTokenSecret"} & endpoint.keys()
    credentials = endpoint["authorization"]["credentials"]
    secret = named(manifests, "Secret", credentials["name"], NAMESPACE)
    assert (secret["type"], credentials["key"]) == ("kubernetes.io/service-account-token", "token")
    account = secret["metadata"]["annotations"]["kubernetes.io/service-account.name"]
    assert named(manifests, "ServiceAccount", account, NAMESPACE)["automountServiceAccountToken"] is False
    bound = [
        named(manifests, each["roleRef"]["kind"], each["roleRef"]["name"])["rules"]
        for each in manifests
        if any(subject["name"] == account for subject in each.get("subjects", ()))
    ]
    assert bound == [[{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]]


@pytest.mark.parametrize("settings", [(MONITORS,), (SECURE,), (SECURE, "rbac.create=false", MONITORS)])
def test_there_is_an_account_for_scrapes_where_one_is_used_only(settings: tuple[str, ...]) -> None:
    """And no right without rbac.create."""
    manifests = rendered(*settings)
    used = settings[0] == SECURE and MONITORS in settings
    accounts = {each["metadata"]["name"] for each in of_kind(manifests, "ServiceAccount")}
    assert (f"{RELEASE}-scraper" in accounts) is used
    bound = {each["metadata"]["name"] for each in of_kind(manifests, "ClusterRoleBinding")}
    assert f"{RELEASE}-scraper" not in bound


def test_a_certificate_of_ones_own_is_taken() -> None:
    manifests = rendered(SECURE, MONITORS, "metrics.secure.certificateSecret=mine")
    assert {each["type"] for each in of_kind(manifests, "Secret")} == {"kubernetes.io/service-account-token"}
    (volume,) = named(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volume["secret"] == {"secretName": "mine"}
    (endpoint,) = named(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["tlsConfig"]["ca"]["secret"] == {"name": "mine", "key": "ca.crt"}


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
