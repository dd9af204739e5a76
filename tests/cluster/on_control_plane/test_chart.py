"""The chart on a real API server."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane, control_plane
from cluster.kubectl import Kubectl
from cluster.on_control_plane.operating import Field
from make import runs
from make.chart import CHART, NAMESPACE, RELEASE, HelmError, helm
from make.operator import eventually

from ixt_operator.adapters.kubernetes.client import RUNS
from ixt_operator.render.names import RUN_UID

CRDS = CHART.parents[1] / "crds"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[ControlPlane]:
    """A cluster that knows nothing of ixt."""
    with control_plane(tmp_path) as plane:
        yield plane


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster that asks for update on the finalizers of owners, as OpenShift does."""
    plugin = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
    with control_plane(tmp_path_factory.mktemp("plane"), plugin, crds=CRDS) as plane:
        yield plane


def install(cluster: ControlPlane, *settings: str, chart: Path = CHART) -> None:
    """Install a chart, or upgrade to it."""
    release = ("upgrade", "--install", "--create-namespace", RELEASE, str(chart))
    command = (*release, *(f"--set={each}" for each in settings))
    try:
        helm(*command, kubeconfig=cluster.kubeconfig)
    except HelmError as error:
        # Runtimes follow CRDs that are not served yet. Users say --wait; here it would wait for pods to run.
        if "no matches for kind" not in str(error):
            raise
        helm(*command, kubeconfig=cluster.kubeconfig)


def older(folder: Path) -> Path:
    """A chart of another version, whose CRD has a column of another name."""
    chart = Path(shutil.copytree(CHART, folder / "older"))
    crd = chart / "templates/crds/ixt.dev_ixtruns.yaml"
    text = crd.read_text()
    crd.write_text(text.replace("name: Progress", "name: Percent"))
    assert crd.read_text() != text
    return chart


def image(kubectl: Kubectl, runtime: str) -> str:
    roles = kubectl.json("get", "ixtruntime", runtime)["spec"]["roles"]
    return str(roles[0]["template"]["spec"]["containers"][0]["image"])


def test_install_upgrade_and_uninstall_touch_no_run(
    bare: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kubectl = bare.kubectl()

    def uids() -> list[str]:
        lasting = ("ixtrun/test", "ixtruntime/cpu", "ixtruntime/nvidia", "crd/ixtruns.ixt.dev")
        return [kubectl.json("get", name)["metadata"]["uid"] for name in lasting]

    install(bare, chart=older(tmp_path_factory.mktemp("chart")))
    kubectl.apply(runs.applied())
    before = uids()
    assert "PERCENT" in kubectl("get", "ixt")
    assert image(kubectl, "cpu").startswith("ixt-workloads-cpu:")

    install(bare, "runtimes.cpu.image.tag=second")
    assert "PROGRESS" in kubectl("get", "ixt")
    assert image(kubectl, "cpu") == "ixt-workloads-cpu:second"

    install(bare, "runtimes.cpu.image.tag=third", "runtimes.nvidia.install=false", "crds.install=false")
    assert image(kubectl, "cpu") == "ixt-workloads-cpu:third"

    helm("uninstall", RELEASE, kubeconfig=bare.kubeconfig)
    assert kubectl("get", "deployments,services,pdb,rolebindings", "-n", NAMESPACE) == ""
    assert uids() == before

    install(bare)
    assert uids() == before


def test_another_release_does_not_take_the_crds_over(bare: ControlPlane) -> None:
    install(bare)
    with pytest.raises(HelmError, match="cannot be imported into the current release"):
        helm("install", "other", str(CHART), kubeconfig=bare.kubeconfig)


@pytest.fixture(params=["all namespaces", "one namespace"])
def account(request: pytest.FixtureRequest, cluster: ControlPlane, kubectl: Kubectl, tmp_path: Path) -> Path:
    """A kubeconfig of the installed chart's service account."""
    some = [f"namespaces={{{kubectl.namespace}}}"] if request.param == "one namespace" else []
    install(cluster, "crds.install=false", *some)
    home = kubectl.within(NAMESPACE)
    found = home.json("config", "view", "--raw")
    found["users"][0]["user"] = {"token": home("create", "token", RELEASE)}
    file = tmp_path / "account.kubeconfig"
    file.write_text(json.dumps(found))
    return file


async def test_the_charts_rights_carry_a_run_from_apply_to_its_removal(account: Path, field: Field) -> None:
    flags = (f"--lease-namespace={NAMESPACE}", "--network-policies", "--monitoring-namespace=monitoring")
    async with field.operator(*flags, kubeconfig=account) as operator:
        name = field.apply()
        await field.until_phase(name, "Complete")
        uid = field.kubectl.json("get", "ixtrun", name)["metadata"]["uid"]
        (secret,) = field.kubectl.json("get", "secrets", "-l", f"{RUN_UID}={uid}")["items"]
        key = base64.b64decode(secret["data"]["apiKey"]).decode()
        policies = field.kubectl.json("get", "networkpolicies", "-l", f"{RUN_UID}={uid}")["items"]
        assert {
            owner["uid"] for each in (secret, *policies) for owner in each["metadata"]["ownerReferences"]
        } == {uid}
        roles = {
            each["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in policies
        }
        assert roles == {"judge", "worker", "trainer", "evaluator"}
        told = field.kubectl("get", "ixtruns,configmaps,jobs,deployments,events", "-o", "json")
        assert key not in told and key not in operator.log.read_text()
        field.kubectl("patch", "ixtrun", name, "--type=merge", "-p", '{"spec":{"ttlSecondsAfterFinished":0}}')
        space = field.kubectl.namespace
        await eventually(lambda: field.client.get(RUNS, space, name), lambda run: run is None)
    assert "forbidden" not in operator.log.read_text()


async def test_the_operator_writes_nothing_into_the_clusters_own_namespaces(
    cluster: ControlPlane, kubectl: Kubectl
) -> None:
    install(cluster, "crds.install=false")
    as_operator = (f"--as=system:serviceaccount:{NAMESPACE}:{RELEASE}", "--dry-run=server")

    def refused(namespace: str) -> str:
        return kubectl.within(namespace).run("create", "configmap", "x", *as_operator).stderr

    said = "the operator of IXTRuns writes nothing into namespaces of the cluster itself"
    await eventually(lambda: refused("kube-system"), lambda error: said in error)
    assert refused(kubectl.namespace) == ""
