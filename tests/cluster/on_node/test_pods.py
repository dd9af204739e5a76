"""Pods on the node, as a run of ixt needs them: names, Services, logs, exec, limits, devices, isolation."""

import json
import subprocess
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from cluster.kubectl import Kubectl
from cluster.node import NAME, NodeCluster
from cluster.on_node.operating import until
from make import pods

SERVE = """
mkdir /tmp/site
hostname > /tmp/site/index.html
trap "echo got TERM; exit 0" TERM
httpd -f -p 8080 -h /tmp/site &
wait
"""
RENDEZVOUS = """
if [ "$JOB_COMPLETION_INDEX" = 0 ]; then echo hello from $(hostname) | nc -l -p 5000
else
  until said=$(nc -w 3 work-0.work 5000 < /dev/null 2> /dev/null) && [ -n "$said" ]; do sleep 0.1; done
  echo "heard: $said"
fi
"""


@pytest.fixture
def web(kubectl: Kubectl) -> Kubectl:
    """Two web servers behind the Service `web` and a pod `client`."""
    ready = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    kubectl.apply(
        pods.deployment("web", 2, pods.shell(SERVE, readinessProbe=ready), terminationGracePeriodSeconds=20),
        pods.service("web", ports=[{"port": 80, "targetPort": 8080}]),
        pods.pod("client", pods.container("sleep", "3600")),
    )
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    return kubectl


def get(kubectl: Kubectl, pod: str, url: str) -> "subprocess.CompletedProcess[str]":
    return kubectl.run("exec", pod, "--", "timeout", "3", "wget", "-qO-", url)


def test_pods_of_an_indexed_job_find_each_other_by_name(kubectl: Kubectl) -> None:
    kubectl.apply(pods.headless("work"), pods.indexed_job("work", 2, pods.shell(RENDEZVOUS)))
    kubectl("wait", "--for=condition=Complete", "job/work", "--timeout=60s")
    logs = kubectl("logs", "--selector=batch.kubernetes.io/job-completion-index=1")
    assert logs == "heard: hello from work-0\n"


def test_a_service_reaches_all_of_its_pods(web: Kubectl, node_cluster: NodeCluster) -> None:
    names = {pod["metadata"]["name"] for pod in web.json("get", "pods", "--selector=app=web")["items"]}
    until(lambda: get(web, "client", "http://web").returncode == 0)
    heard: set[str] = set()
    until(lambda: heard.add(get(web, "client", "http://web").stdout.strip()) or heard >= names)
    # A pod reaches itself through its own Service, and this machine reaches it too.
    server = min(names)
    heard = set()
    until(lambda: heard.add(get(web, server, "http://web").stdout.strip()) or heard >= names)
    address = web.json("get", "service", "web")["spec"]["clusterIP"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/", timeout=5) as answer:
        assert answer.read().decode().strip() in names


def test_deletion_says_so_to_the_pod_and_waits(web: Kubectl) -> None:
    name = web.json("get", "pods", "--selector=app=web")["items"][0]["metadata"]["name"]
    with subprocess.Popen(web.command("logs", "-f", name), stdout=subprocess.PIPE, text=True) as logs:
        web("delete", "pod", name)
        assert "got TERM" in logs.communicate(timeout=60)[0]


def test_exec_hands_on_input_and_exit_code(kubectl: Kubectl) -> None:
    kubectl.apply(pods.pod("shell", pods.container("sleep", "3600")))
    kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s")
    done = kubectl.run("exec", "-i", "shell", "--", "sh", "-c", "cat; exit 7", stdin="given")
    assert (done.stdout, done.returncode) == ("given", 7)


def test_a_pod_over_its_memory_limit_is_oom_killed(kubectl: Kubectl) -> None:
    hungry = pods.container("tail", "/dev/zero", resources={"limits": {"memory": "32Mi"}})
    kubectl.apply(pods.pod("hungry", hungry))
    kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/hungry", "--timeout=60s")
    (status,) = kubectl.json("get", "pod", "hungry")["status"]["containerStatuses"]
    ended = status["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_a_device_that_is_only_claimed_is_given_out_once(kubectl: Kubectl) -> None:
    """GPUs that do not exist: the scheduler counts them as it would real ones."""
    patch = json.dumps({"status": {"capacity": {"nvidia.com/gpu": "2"}}})
    kubectl("patch", "node", NAME, "--subresource=status", "--type=merge", "-p", patch)
    kubectl(
        "wait", r"--for=jsonpath={.status.allocatable.nvidia\.com/gpu}=2", f"node/{NAME}", "--timeout=60s"
    )
    gpu = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    kubectl.apply(pods.pod("first", pods.container("sleep", "3600", **gpu)))
    kubectl("wait", "--for=condition=Ready", "pod/first", "--timeout=60s")
    kubectl.apply(pods.pod("second", pods.container("true", **gpu)))
    kubectl("wait", "--for=condition=PodScheduled=False", "pod/second", "--timeout=60s")
    (condition,) = kubectl.json("get", "pod", "second")["status"]["conditions"]
    assert "1 Insufficient nvidia.com/gpu" in condition["message"]
    kubectl("delete", "pod", "first")
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/second", "--timeout=60s")


def test_pods_reach_nothing_outside_of_the_cluster(web: Kubectl, node_cluster: NodeCluster) -> None:
    heard = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.client_address)
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer((node_cluster.network.host, 0), Listener) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{node_cluster.network.host}:{server.server_port}/"
        done = get(web, "client", url)
        assert done.returncode
        assert heard == []
        # The node itself reaches it, so that the API server can call webhooks.
        node_cluster.sandbox.run("busybox", "wget", "-qO-", url)
        assert len(heard) == 1
        server.shutdown()
    looked_up = web.run("exec", "client", "--", "nslookup", "example.com.")
    assert "NXDOMAIN" in looked_up.stdout + looked_up.stderr
    # 203.0.113.0/24 is for documentation: nobody has such an address.
    ask = node_cluster.sandbox.command("ip", "route", "get", "203.0.113.1")
    routes = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert "unreachable" in routes.stderr


def test_the_kubelet_can_be_stopped_and_started_again(kubectl: Kubectl, node_cluster: NodeCluster) -> None:
    node_cluster.stop("kubelet")
    kubectl.apply(pods.pod("late", pods.container("true")))
    kubectl("wait", "--for=condition=PodScheduled", "pod/late", "--timeout=30s")
    node_cluster.start("kubelet")
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/late", "--timeout=60s")
