"""What Kubernetes is given: golden files to read, and rules that hold for every manifest.

After an intended change write the golden files anew and read their diff:
    IXT_GOLDEN=write pytest tests/render
"""

import base64
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make import runs
from make.kube import problems
from make.observed import Platform
from typer.testing import CliRunner

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.cli.ixt import app
from ixt_operator.manifests.documents import dump, yaml_documents
from ixt_operator.planner.child import Child
from ixt_operator.render.names import Object
from ixt_operator.render.preview import preview
from ixt_operator.render.render import render
from ixt_workloads.contract.credentials import prefix_of
from ixt_workloads.contract.kinds import Role
from ixt_workloads.contract.trainer_pod import TRAINER_POD, TrainerPod
from ixt_workloads.contract.versions import read_task

GOLDEN = Path(__file__).parent.parent / "golden" / "render"
RUNTIMES = runs.RUNTIMES

OF_ALL = {
    "metadata": {"labels": {"team": "a"}, "annotations": {"example.com/cost": "b"}},
    "spec": {"schedulerName": "gang", "nodeSelector": {"pool": "a"}, "priorityClassName": "low"},
}
OF_TRAINERS = runs.patch(
    image="mine:1",
    resources={"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "8"}, "claims": [{"name": "link"}]},
    env=[
        {"name": "NCCL_DEBUG", "value": "WARN"},
        {"name": "HOME", "value": "/home"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
    ],
    envFrom=[{"configMapRef": {"name": "fabric"}}],
    volumeMounts=[{"name": "cache", "mountPath": "/cache"}, {"name": "scratch", "mountPath": "/scratch"}],
    spec={
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "serviceAccountName": "trainer",
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "registry"}],
        "initContainers": [
            {"name": "warm", "image": "mine:1", "securityContext": runs.RESTRICTED, "command": ["true"]}
        ],
        "volumes": [
            {"name": "cache", "persistentVolumeClaim": {"claimName": "hub"}},
            {"name": "scratch", "emptyDir": {}},
        ],
        "resourceClaims": [{"name": "link", "resourceClaimTemplateName": "nvlink"}],
        "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
        ],
    },
)
STORAGE = {"uri": "s3://bucket/ixt", "credentialsSecretRef": {"name": "bucket-keys"}}
OWN = {
    "storage": STORAGE,
    "model": {"source": "hf://owner/gated", "credentialsSecretRef": {"name": "hub.tokens"}},
    "judge": {"model": "gs://judges/large", "credentialsSecretRef": {"name": "judge-keys"}},
    "stages": [
        runs.stage(
            datasets=[
                {"name": "one", "uri": "s3://data/one", "credentialsSecretRef": {"name": "data-one"}},
                {"name": "two", "uri": "s3://data/two", "credentialsSecretRef": {"name": "data-two"}},
                {"name": "ours", "uri": "s3://bucket/x", "credentialsSecretRef": {"name": "bucket-keys"}},
                {"name": "open", "uri": "hf://owner/open"},
            ],
            evaluate={
                "tasks": [
                    {"name": "sums", "uri": "s3://t/a.jsonl", "credentialsSecretRef": {"name": "task-keys"}}
                ]
            },
        )
    ],
}
"""Places with credentials of their own."""
CLAIMS = {"storage": {"uri": "pvc://my.claim/ixt"}, "judge": {"model": "pvc://models/judge"}}

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "inventory": ({}, "cpu", "pretrain/inventory"),
    "judge": ({"storage": STORAGE}, "cpu", "pretrain/judge"),
    "annotate": ({"stages": [runs.stage(annotate={"workers": 4})]}, "cpu", "pretrain/annotate/0-15"),
    "annotate-endpoint": (
        {
            "judge": {
                "endpoint": {
                    "url": "https://judge.example/v1",
                    "model": "m",
                    "apiKeySecretRef": {"name": "judge-key"},
                }
            }
        },
        "cpu",
        "pretrain/annotate/0-15",
    ),
    "train-2-nodes": (
        {"stages": [runs.stage(train={"numNodes": 2})]},
        "nvidia",
        "pretrain/train/conditioned-s0",
    ),
    "train-queued": ({"queueName": "gpus"}, "nvidia", "pretrain/train/conditioned-s0"),
    "train-patched": (
        {"pods": {"all": OF_ALL, "trainer": OF_TRAINERS}, "storage": STORAGE},
        "nvidia",
        "pretrain/train/conditioned-s0",
    ),
    "prepare-claims": (CLAIMS, "cpu", "pretrain/prepare/conditioned"),
    "evaluate": ({}, "nvidia", "pretrain/evaluate/conditioned-s0"),
    "report": ({}, "cpu", "report"),
    "inventory-credentials": (OWN, "cpu", "pretrain/inventory"),
    "judge-credentials": (OWN, "cpu", "pretrain/judge"),
}


def rendered(spec: dict[str, Any], runtime: str, node: str) -> tuple[Object, ...]:
    """The manifests of a node's child as a run comes by it."""
    sim = Platform(runs.run(**spec), RUNTIMES[runtime])
    sim.until(node)
    return render(sim.run, sim.runtime, sim.newest(node).child)


def of_kind(manifests: tuple[Object, ...], kind: str) -> Object:
    return next(manifest for manifest in manifests if manifest["kind"] == kind)


def main_container(workload: Object) -> Object:
    containers = workload["spec"]["template"]["spec"]["containers"]
    return next(container for container in containers if container["name"] == "main")


def environment(workload: Object) -> dict[str, Any]:
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in main_container(workload)["env"]
    }


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    manifests = rendered(*CASES[name])
    # The task's JSON is one long line: written out, so that it can be read and compared.
    shown = [{**manifest} for manifest in manifests]
    shown[0]["data"] = {"task.json": json.loads(shown[0]["data"]["task.json"])}
    text = "".join(f"---\n{dump(manifest)}" for manifest in shown)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("IXT_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text(), f"{file.name} differs; see this module's docstring"


@pytest.mark.parametrize("name", CASES)
def test_nothing_that_a_cluster_would_refuse(name: str) -> None:
    for manifest in rendered(*CASES[name]):
        assert problems(manifest) == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_manifest_of_a_run_keeps_the_rules(runtime: str) -> None:
    run = runs.run(
        arms=[runs.arm("c", seeds=[0, 1]), runs.arm("f", "Filtered", samplePercent=40)],
        stages=[runs.stage(train={"numNodes": 2}), runs.stage("sft")],
        storage=STORAGE,
    )
    manifests = preview(run, RUNTIMES[runtime])
    assert [found for manifest in manifests for found in problems(manifest)] == []
    identities = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize(
    ("node", "secrets"),
    [
        ("pretrain/inventory", ["data-one", "data-two", "hub.tokens", "judge-keys", "task-keys"]),
        ("pretrain/judge", ["judge-keys"]),
        ("pretrain/annotate/0-15", ["judge-keys"]),
        ("pretrain/prepare/conditioned", ["hub.tokens", "task-keys"]),
        ("pretrain/train/conditioned-s0", ["hub.tokens", "task-keys"]),
        ("pretrain/evaluate/conditioned-s0", ["task-keys"]),
        ("report", []),
    ],
)
def test_a_pod_gets_the_secrets_of_what_it_reads(node: str, secrets: list[str]) -> None:
    found = main_container(rendered(OWN, "cpu", node)[-1])["envFrom"]
    assert found == [
        {"secretRef": {"name": "bucket-keys"}},
        *({"prefix": prefix_of(secret), "secretRef": {"name": secret}} for secret in secrets),
    ]


@pytest.mark.parametrize(
    "node", ["pretrain/inventory", "pretrain/annotate/0-15", "pretrain/train/conditioned-s0"]
)
def test_steps_get_the_key_that_documents_are_signed_with_and_judges_do_not(node: str) -> None:
    reference = {"name": "signing", "key": "hmac"}
    spec = {**OWN, "storage": {"uri": "s3://bucket/ixt", "signingKeySecretRef": reference}}
    secret = {"secretKeyRef": reference}
    assert environment(of_kind(rendered(spec, "cpu", node), "Job"))["IXT_SIGNING_KEY"] == secret
    assert "IXT_SIGNING_KEY" not in environment(
        of_kind(rendered(spec, "cpu", "pretrain/judge"), "Deployment")
    )


def test_ranks_find_each_other() -> None:
    manifests = rendered(*CASES["train-2-nodes"])
    job, service = of_kind(manifests, "Job"), of_kind(manifests, "Service")
    name = job["metadata"]["name"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)
    assert service["metadata"]["name"] == name
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert job["spec"]["template"]["spec"]["subdomain"] == name
    assert environment(job)["IXT_LEADER"] == f"{name}-0.{name}.default.svc:29500"
    assert environment(job)["IXT_PEERS"] == f"{name}.default.svc"
    pods = job["spec"]["template"]["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= pods


def test_workers_find_the_judge() -> None:
    job = of_kind(rendered(*CASES["annotate"]), "Job")
    service = of_kind(rendered(*CASES["judge"]), "Service")
    host = environment(job)["IXT_JUDGE_URLS"].removeprefix("http://").partition(":")[0]
    assert host.endswith(".default.svc")
    assert host.partition("-judge-")[0] == service["metadata"]["name"].partition("-judge-")[0]


ON_HOST = {"pods": {role: runs.patch(spec={"hostNetwork": True}) for role in ("judge", "trainer")}}


def _ports(workload: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in main_container(workload)["ports"]}


def test_pods_that_share_their_nodes_network_have_ports_of_their_own() -> None:
    """Trainers and judges of two runs on one node do not meet each other."""
    seen: list[int] = []
    for name in ("one", "two"):
        manifests = preview(runs.run(name=name, **ON_HOST), RUNTIMES["cpu"])
        jobs = [each for each in manifests if each["metadata"]["labels"].get("ixt.dev/kind") == "Train"]
        (judge,) = {
            each["metadata"]["name"]: each for each in manifests if each["kind"] == "Deployment"
        }.values()
        services = {each["metadata"]["name"]: each for each in manifests if each["kind"] == "Service"}
        train = next(each for each in jobs if each["kind"] == "Job")
        for workload in (train, judge):
            ports, env = _ports(workload), environment(workload)
            assert all(20_000 <= port < 30_000 for port in ports.values())
            assert ports == {name: int(env[f"IXT_PORT_{name.upper()}"]) for name in ports}
            service = services[workload["metadata"]["name"]]
            assert ports == {port["name"]: port["port"] for port in service["spec"]["ports"]}
            assert workload["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet"
            seen += ports.values()
        assert environment(train)["IXT_LEADER"].endswith(f":{_ports(train)['rendezvous']}")
        asks = next(
            each
            for each in manifests
            if each["kind"] == "Job" and each["metadata"]["labels"]["ixt.dev/kind"] == "Annotate"
        )
        assert environment(asks)["IXT_JUDGE_URLS"].endswith(f".svc:{_ports(judge)['http']}")
        assert _ports(asks) == {"progress": 8080}, "its pods are not on the node's network"
    assert len(set(seen)) == len(seen)


def test_the_attempt_after_one_whose_port_was_taken_has_another() -> None:
    sim = Platform(runs.run(**ON_HOST))
    sim.until("pretrain/train/conditioned-s0")
    first = sim.newest("pretrain/train/conditioned-s0").child
    ports = [
        _ports(
            render(sim.run, sim.runtime, first.model_copy(update={"name": f"{first.name[:-1]}{attempt}"}))[-1]
        )
        for attempt in (1, 1, 2)
    ]
    assert ports[0] == ports[1]
    assert not set(ports[1].values()) & set(ports[2].values())


def test_kueue_owns_a_queued_job() -> None:
    job = of_kind(rendered(*CASES["train-queued"]), "Job")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "suspend" not in of_kind(rendered(*CASES["evaluate"]), "Job")["spec"]


def test_patches_lie_over_the_runtime_and_under_what_the_operator_owns() -> None:
    job = of_kind(rendered(*CASES["train-patched"]), "Job")
    spec, main = job["spec"]["template"]["spec"], main_container(job)
    assert main["image"] == "mine:1"
    assert main["resources"]["limits"] == {"nvidia.com/gpu": "8", "memory": "192Gi"}
    assert main["resources"]["requests"] == {"cpu": "2", "memory": "32Gi"}, "the runtime's memory stays"
    assert main["resources"]["claims"] == [{"name": "link"}]
    env = environment(job)
    assert (env["NCCL_DEBUG"], env["HOME"]) == ("WARN", "/home")
    assert env["TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert env["IXT_TASK"] == "/ixt/task/task.json"
    assert main["envFrom"] == [{"configMapRef": {"name": "fabric"}}, {"secretRef": {"name": "bucket-keys"}}]
    volumes = {volume["name"]: {*volume} - {"name"} for volume in spec["volumes"]}
    assert (volumes["cache"], volumes["scratch"]) == ({"persistentVolumeClaim"}, {"emptyDir"})
    assert [container["name"] for container in spec["initContainers"]] == ["warm"]
    assert (spec["schedulerName"], spec["resourceClaims"][0]["name"]) == ("gang", "link")
    metadata = job["spec"]["template"]["metadata"]
    assert (metadata["labels"]["team"], metadata["annotations"]["example.com/cost"]) == ("a", "b")
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert {t["key"] for t in spec["tolerations"][1:]} == {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    }
    assert spec["nodeSelector"] == {"pool": "a"}
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("trainer", "high")
    assert spec["automountServiceAccountToken"] is False


UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}


@pytest.mark.parametrize(
    ("own", "left"),
    [
        ({**UNREACHABLE, "effect": "NoExecute", "tolerationSeconds": 3600}, {"node.kubernetes.io/not-ready"}),
        (UNREACHABLE, {"node.kubernetes.io/not-ready"}),
        ({"operator": "Exists"}, set()),
        (
            {**UNREACHABLE, "effect": "NoSchedule"},
            {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"},
        ),
    ],
)
def test_a_toleration_of_the_users_own_is_not_cut_short(own: dict[str, Any], left: set[str]) -> None:
    """Kubernetes takes the shortest of all that match a taint."""
    spec = {"pods": {"trainer": runs.patch(spec={"tolerations": [own]})}}
    job = of_kind(rendered(spec, "cpu", "pretrain/train/conditioned-s0"), "Job")
    mine, *ours = job["spec"]["template"]["spec"]["tolerations"]
    assert mine == own
    assert {each["key"] for each in ours} == left


def test_resources_per_node_are_those_of_the_trainer() -> None:
    limits = {"limits": {"nvidia.com/gpu": "4"}}
    spec = {"stages": [runs.stage(train={"resourcesPerNode": limits})]}
    job = of_kind(rendered(spec, "nvidia", "pretrain/train/conditioned-s0"), "Job")
    assert main_container(job)["resources"] == limits


def test_a_template_of_an_admin_keeps_what_is_not_the_operators() -> None:
    sidecar = {"name": "log", "image": "log:1"}
    template = {
        "metadata": {"annotations": {"a": "b"}, "labels": {"team": "x"}},
        "spec": {
            "containers": [sidecar, {"name": "main", "image": "i", "command": ["sleep"], "args": ["1"]}],
            "restartPolicy": "Always",
        },
    }
    base = RUNTIMES["cpu"].model_dump(mode="json")
    role = {"name": "Worker", "template": template, "command": ["nice"]}
    base["spec"]["roles"] = [role, *(r for r in base["spec"]["roles"] if r["name"] != Role.WORKER)]
    sim = Platform(runs.run(), IXTRuntime.model_validate(base))
    sim.look()
    job = of_kind(render(sim.run, sim.runtime, sim.newest("pretrain/inventory").child), "Job")
    pod = job["spec"]["template"]
    assert pod["metadata"]["annotations"] == {"a": "b", "ixt.dev/node": "pretrain/inventory"}
    assert pod["metadata"]["labels"]["team"] == "x"
    assert sidecar in pod["spec"]["containers"]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert main_container(job)["command"] == ["nice", "python", "-m", "ixt_workloads.steps.inventory"]
    assert "args" not in main_container(job)


def test_rendering_changes_no_template() -> None:
    before = RUNTIMES["nvidia"].model_dump()
    rendered(*CASES["train-patched"])
    assert RUNTIMES["nvidia"].model_dump() == before


def test_the_report_of_the_largest_run_fits_into_a_config_map() -> None:
    arms = [runs.arm(f"arm-{i}".ljust(24, "x"), "NextToken", seeds=list(range(32))) for i in range(2)]
    stages = [runs.stage(f"stage-{i}".ljust(24, "x")) for i in range(16)]
    config = preview(runs.run(judge=None, arms=arms, stages=stages), RUNTIMES["cpu"])[-2]
    assert config["kind"] == "ConfigMap"
    assert problems(config) == []
    packed = base64.b64decode(config["binaryData"]["task.json"])
    assert len(gzip.decompress(packed)) > 1024**2
    assert read_task(packed).kind == "Report"


label = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,22}[a-z0-9])?", fullmatch=True)
run_name = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,29}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?)?", fullmatch=True
)


@st.composite
def any_run(draw: st.DrawFn) -> IXTRun:
    """Runs with any names; steps' own names among them."""
    names = st.one_of(label, st.sampled_from(["train", "report", "judge", "inventory", "x-s1"]))
    arms = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    stages = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    return runs.run(
        name=draw(st.one_of(run_name, st.sampled_from(["train", "report", "7b"]))),
        arms=[runs.arm(name, seeds=[0, 2**31 - 1]) for name in arms],
        stages=[runs.stage(name) for name in stages],
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(run=any_run())
def test_any_names_give_valid_and_different_names(run: IXTRun) -> None:
    manifests = preview(run, RUNTIMES["cpu"])
    assert [found for manifest in manifests for found in problems(manifest)] == []
    identities = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(identities)) == len(identities)


def _strings(value: Any) -> Iterator[tuple[Any, ...]]:
    match value:
        case dict():
            for key, item in value.items():
                yield from ((key, *rest) for rest in _strings(item))
        case list():
            for index, item in enumerate(value):
                yield from ((index, *rest) for rest in _strings(item))
        case _:
            yield (value, type(value))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ixt_render_prints_yaml_that_reads_back(tmp_path: Path, runtime: str) -> None:
    env = [{"name": "RATE", "value": "3e-4"}, {"name": "DAY", "value": "2026-01-01"}]
    pods = {"trainer": runs.patch(env=env)}
    manifest = runs.manifest(pods=pods, runtimeRef={"name": runtime})
    file = tmp_path / "run.yaml"
    file.write_text(dump(manifest))
    shown = CliRunner().invoke(app, ["render", str(file), "-n", "team"])
    assert shown.exit_code == 0, shown.output
    found = [document.value for document in yaml_documents(shown.stdout)]
    assert {manifest["metadata"]["namespace"] for manifest in found} == {"team"}
    assert [problem for manifest in found for problem in problems(manifest)] == []
    trainers = [m for m in found if m["kind"] == "Job" and "-train-" in m["metadata"]["name"]]
    assert [environment(trainer)["RATE"] for trainer in trainers] == ["3e-4"]
    assert [environment(trainer)["DAY"] for trainer in trainers] == ["2026-01-01"]
    again = [document.value for document in yaml_documents("".join(f"---\n{dump(m)}" for m in found))]
    assert list(_strings(again)) == list(_strings(found))


def test_a_role_that_the_runtime_lacks_is_named() -> None:
    base = RUNTIMES["cpu"].model_dump(mode="json")
    base["spec"]["roles"] = [role for role in base["spec"]["roles"] if role["name"] != Role.WORKER]
    sim = Platform(runs.run(), IXTRuntime.model_validate(base))
    sim.look()
    child: Child = sim.newest("pretrain/inventory").child
    with pytest.raises(KeyError, match="runtime cpu has no role Worker"):
        render(sim.run, sim.runtime, child)


def test_machines_that_failed_twice_are_avoided() -> None:
    sim = Platform(runs.run(), RUNTIMES["cpu"])
    sim.look()
    child = sim.newest("pretrain/inventory").child.model_copy(update={"avoid_hosts": ("a", "b")})
    job = of_kind(render(sim.run, sim.runtime, child), "Job")
    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchFields"] == [
        {"key": "metadata.name", "operator": "NotIn", "values": ["a"]},
        {"key": "metadata.name", "operator": "NotIn", "values": ["b"]},
    ]


def test_labels_that_the_runtime_names_and_kueues_own_go_onto_workloads_and_pods() -> None:
    labels = {
        "team.example.com/name": "nlp",
        "other.example.com/name": "x",
        "kueue.x-k8s.io/priority-class": "high",
        "kueue.x-k8s.io/queue-name": "not-this-way",
        "ixt.dev/run": "forged",
    }
    topology = {"kueue.x-k8s.io/podset-required-topology": "rack", "note": "mine"}
    base = RUNTIMES["cpu"]
    runtime = base.model_copy(
        update={"spec": base.spec.model_copy(update={"label_prefixes": ("team.example.com/", "ixt.dev/")})}
    )
    manifest = runs.manifest()
    manifest["metadata"] |= {"labels": labels, "annotations": topology}
    sim = Platform(IXTRun.model_validate(manifest), runtime)
    sim.until("pretrain/judge")
    for node, kind in (("pretrain/inventory", "Job"), ("pretrain/judge", "Deployment")):
        workload = of_kind(render(sim.run, runtime, sim.newest(node).child), kind)
        for metadata in (workload["metadata"], workload["spec"]["template"]["metadata"]):
            assert metadata["labels"]["team.example.com/name"] == "nlp"
            assert metadata["labels"]["kueue.x-k8s.io/priority-class"] == "high"
            assert metadata["labels"]["ixt.dev/run"] == "test"
            assert not {"other.example.com/name", "kueue.x-k8s.io/queue-name"} & metadata["labels"].keys()
            assert metadata["annotations"].keys() == {
                "kueue.x-k8s.io/podset-required-topology",
                "ixt.dev/node",
            }


def test_a_judge_over_all_gpus_of_its_pod_counts_them_there() -> None:
    engine = {"engine": {"tensorParallelSize": "Auto"}}
    spec = {"judge": {"model": "file:///judge", **engine}}
    judge = of_kind(rendered(spec, "nvidia", "pretrain/judge"), "Deployment")
    assert '"--tensor-parallel-size", "Auto"' in environment(judge)["IXT_ENGINE_ARGS"]


@pytest.mark.parametrize(
    ("runtime", "spec", "pod"),
    [
        ("cpu", {}, {"memory_bytes": 16 * 2**30}),
        ("nvidia", {}, {"gpus": 1, "memory_bytes": 192 * 2**30}),
        (
            "nvidia",
            {"stages": [runs.stage(train={"resourcesPerNode": {"limits": {"nvidia.com/gpu": 8}}})]},
            {"gpus": 8},
        ),
        (
            "nvidia",
            {"pods": {"trainer": {"spec": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}}}},
            {"gpus": 1, "gpu": "NVIDIA-L4", "memory_bytes": 192 * 2**30},
        ),
    ],
)
def test_inventory_knows_what_its_trainers_pods_have(
    runtime: str, spec: dict[str, Any], pod: dict[str, Any]
) -> None:
    found = preview(runs.run(**spec), RUNTIMES[runtime])
    job = next(each for each in found if each["kind"] == "Job")
    variables = job["spec"]["template"]["spec"]["containers"][0]["env"]
    given = next(each["value"] for each in variables if each["name"] == TRAINER_POD)
    assert TrainerPod.model_validate_json(given) == TrainerPod(**pod)
