"""What goes wrong in real pods, over stub steps: the run goes on, or says what to do."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster.kubectl import Kubectl, KubectlError
from cluster.node import NAME, NodeCluster
from cluster.on_node.operating import CLAIM, Site, until
from make import runs
from make.chart import CHART, RELEASE, helm

TRAIN = "pretrain/train/conditioned-s0"
PREPARE = "pretrain/prepare/conditioned"
OTHER = "ixt-other-node"
DEVICE = "example.com/gpu"
GO = f"/ixt/volumes/{CLAIM}/go"


def hold(site: Site, node: str = TRAIN) -> None:
    """Have a step wait until `go` is called."""
    site.misbehave({node: {"*": {"wait_for": GO}}})


def go(site: Site) -> None:
    (site.volume / "go").touch()


def held(site: Site, count: int = 1, node: str = TRAIN) -> list[dict[str, Any]]:
    """The running pods of a step that waits."""

    def running() -> list[dict[str, Any]]:
        return [pod for pod in site.pods(node) if pod["status"]["phase"] == "Running"]

    until(lambda: len(running()) == count)
    return running()


def leader(release: Kubectl) -> str:
    holder = release("get", "lease", RELEASE, "-o", "jsonpath={.spec.holderIdentity}")
    return holder.partition("_")[0]


def attempts(site: Site) -> dict[str, int]:
    """How many Jobs there are of each node."""
    found: dict[str, int] = {}
    for job in site.kubectl.json("get", "jobs", "-l", "ixt.dev/run")["items"]:
        node = job["metadata"]["annotations"]["ixt.dev/node"]
        found[node] = found.get(node, 0) + 1
    return found


def message(site: Site) -> str:
    return str(site.status().get("summary", {}).get("message", ""))


def test_the_leader_is_killed_in_mid_step(site: Site, release: Kubectl) -> None:
    hold(site)
    site.apply()
    held(site)
    old = leader(release)
    release("delete", "pod", old, "--grace-period=0", "--force")
    until(lambda: leader(release) not in ("", old))
    go(site)
    site.wait("Complete")
    assert set(attempts(site).values()) == {1}


def test_a_training_pod_is_killed(site: Site) -> None:
    hold(site)
    site.apply()
    (pod,) = held(site)
    site.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    go(site)
    site.wait("Complete")
    assert attempts(site)[TRAIN] == 2


@contextmanager
def another_node(kubectl: Kubectl) -> Iterator[None]:
    """A node that is well and takes no pods. Where all nodes are lost Kubernetes takes the network for the
    culprit and evicts nothing (https://kubernetes.io/docs/concepts/architecture/nodes)."""
    taint = {"key": "ixt.test/no-pods", "effect": "NoSchedule"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": OTHER}, "spec": {"taints": [taint]}}
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    kubectl.apply(node)
    kubectl("patch", "node", OTHER, "--subresource=status", "--type=merge", "-p", json.dumps(ready))
    leases, over = kubectl.within("kube-node-lease"), threading.Event()

    def beat() -> None:
        while not over.wait(5):
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            spec = {"holderIdentity": OTHER, "leaseDurationSeconds": 40, "renewTime": now}
            kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
            with suppress(KubectlError):  # the next beat makes up for it
                leases.apply({**kind, "metadata": {"name": OTHER}, "spec": spec})

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
        kubectl("delete", "node", OTHER)


@pytest.mark.timeout(600)
def test_a_node_is_lost_and_comes_back(site: Site, cluster: NodeCluster, release: Kubectl) -> None:
    hold(site, PREPARE)
    site.apply()
    (pod,) = held(site, node=PREPARE)
    with another_node(site.kubectl):
        cluster.stop("kubelet")
        try:
            # Not ready after 50 s; evicted 30 s later; gone after its grace of 30 s, or so it should be; and
            # 30 s after that nobody waits for it any more.
            lost = ("wait", "--for=jsonpath={.status.reason}=NodeLost", f"pod/{pod['metadata']['name']}")
            site.kubectl(*lost, "--timeout=300s")
        finally:
            cluster.start("kubelet")
    until(lambda: attempts(site)[PREPARE] == 2)
    go(site)
    site.wait("Complete", seconds=200)
    release("rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")


def test_too_little_memory(site: Site) -> None:
    site.misbehave({TRAIN: {"*": {"wait_for": GO}}})
    limited = runs.patch(resources={"requests": {"memory": "8Mi"}, "limits": {"memory": "8Mi"}})
    site.apply(pods={"trainer": limited}, failurePolicy={"outOfMemory": 0})
    site.wait("Failed")
    assert "OOMKilled" in message(site)


def have_devices(kubectl: Kubectl, count: int) -> None:
    """Have so many devices on the node that do not exist: the scheduler counts them as real ones."""
    patch = json.dumps({"status": {"capacity": {DEVICE: str(count)}}})
    kubectl("patch", "node", NAME, "--subresource=status", "--type=merge", "-p", patch)
    field = r"{.status.allocatable.example\.com/gpu}"
    kubectl("wait", f"--for=jsonpath={field}={count}", f"node/{NAME}", "--timeout=60s")


def test_a_training_that_saves_between_outlives_more_preemptions_than_its_budget(site: Site) -> None:
    """Its node tells it to end, as spot machines do, more often than failurePolicy.infrastructure allows."""
    told_to_end = {"saves": True, "signal": signal.SIGTERM}
    site.misbehave({TRAIN: {str(attempt): told_to_end for attempt in (1, 2, 3)}})
    site.apply(failurePolicy={"infrastructure": 1})
    site.wait("Complete")
    assert attempts(site)[TRAIN] == 4
    assert site.step("pretrain/train/conditioned")["attemptsByFault"] == {"Infrastructure": 3}


def test_an_image_that_cannot_be_pulled(site: Site) -> None:
    site.apply(pods={"worker": runs.patch(image="ixt.test/nowhere:1")})
    until(lambda: "ErrImageNeverPull" in message(site))


def test_a_secret_that_is_missing(site: Site) -> None:
    site.apply(storage={"uri": "s3://bucket/runs", "credentialsSecretRef": {"name": "keys"}})
    until(lambda: 'secret "keys" not found' in message(site))


def test_a_claim_that_is_missing(site: Site) -> None:
    site.apply(storage={"uri": "pvc://nothing/runs"})
    until(lambda: 'persistentvolumeclaim "nothing" not found' in message(site))


def test_a_quota_that_is_exceeded(site: Site) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    site.kubectl.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    site.kubectl("wait", "--for=jsonpath={.status.hard}", "quota/none", "--timeout=30s")
    site.apply()
    until(lambda: "exceeded quota" in message(site))
    site.kubectl("delete", "quota", "none")
    site.wait("Complete")


def test_suspend_and_resume(site: Site) -> None:
    hold(site)
    site.apply()
    held(site)
    assert "patched" in site.kubectl.ixt("suspend", "test")
    site.wait("Suspended")
    until(lambda: not [pod for pod in site.pods(TRAIN) if pod["status"]["phase"] == "Running"])
    go(site)
    assert "patched" in site.kubectl.ixt("resume", "test")
    site.wait("Complete")


def test_delete_in_mid_run(site: Site) -> None:
    hold(site)
    site.apply()
    held(site)
    site.kubectl("delete", "ixtrun", "test", "--cascade=foreground", "--timeout=90s")
    until(lambda: site.children() == [])


def test_an_upgrade_of_the_chart_touches_no_child(site: Site, cluster: NodeCluster, release: Kubectl) -> None:
    hold(site)
    site.apply()
    held(site)
    before, old = site.children(), leader(release)
    settings = ("--reuse-values", "--set=podAnnotations.upgrade=second")
    helm("upgrade", RELEASE, str(CHART), *settings, kubeconfig=cluster.kubeconfig)
    release("rollout", "status", f"deployment/{RELEASE}", "--timeout=90s")
    until(lambda: leader(release) not in ("", old))
    assert site.children() == before
    go(site)
    site.wait("Complete")
    assert set(attempts(site).values()) == {1}


def test_training_asks_for_its_gpus_when_the_judge_is_gone(site: Site) -> None:
    """Two devices, two for the judge and two for the trainer: the scheduler gives none out twice."""
    have_devices(site.kubectl, 2)
    both = runs.patch(resources={"limits": {DEVICE: "2"}})
    hold(site)
    site.apply(pods={"judge": both, "trainer": both})
    held(site)
    assert site.pods("pretrain/judge") == []
    go(site)
    site.wait("Complete")
    events = site.kubectl("get", "events", "--field-selector=reason=FailedScheduling")
    assert "Insufficient" not in events
