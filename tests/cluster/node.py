"""All of Kubernetes on one node, in a sandbox of its own: pods really run. Root."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import binaries, certificates, components, images, sandbox
from cluster.base import Cluster
from cluster.sandbox import CONF, Sandbox

NAME = "ixt-node"
PORT = 6443
CONTAINERD = "/run/containerd/containerd.sock"


class NodeCluster(Cluster):
    """A cluster whose API server, pods and Services this machine reaches by their addresses."""

    def __init__(self, box: Sandbox) -> None:
        super().__init__(box.folder, f"https://{box.network.node}:{PORT}")
        self.sandbox = box
        self.network = box.network
        self.dns = str(self.network.services[10])

    def pid(self, name: str) -> int:
        return sandbox.child(self._processes[name].pid)

    def bring_up(self) -> None:
        """Start everything. Raises ClusterError when it does not become ready."""
        self._write_files()
        self.run("etcd", components.etcd())
        self.run("kube-apiserver", self._apiserver())
        shims = binaries.folder("containerd-shim-runc-v2")
        path = f"PATH={shims}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.run("containerd", ["env", path, str(binaries.path("containerd")), "--config=containerd.toml"])
        images.archive(self.folder / "images.tar", binaries.path("coredns"))
        self.until(self._containerd_answers, "containerd")
        load_images(self.sandbox, self.folder / "images.tar")
        self.until(lambda: self.answers("/readyz"), "API server")
        more = ("--bind-address=127.0.0.1", "--allocate-node-cidrs", "--node-cidr-mask-size=24")
        cidrs = (f"--cluster-cidr={self.network.pods}", f"--service-cluster-ip-range={self.network.services}")
        self.run("kube-controller-manager", components.kube_controller_manager(*more, *cidrs))
        self.run("kube-scheduler", self._scheduler())
        self.run("kubelet", self._kubelet())
        self.run("kube-proxy", [str(binaries.path("kube-proxy")), "--config=kube-proxy.yaml"])
        kubectl = self.kubectl("kube-system")
        kubectl("apply", "-f", str(self.folder / "cluster.yaml"))
        for what, condition in ((f"node/{NAME}", "Ready"), ("deployment/coredns", "Available")):
            wait = ("wait", f"--for=condition={condition}", what, "--timeout=1s")
            self.until(lambda wait=wait: not kubectl.run(*wait).returncode, f"{what} {condition}")

    def down(self) -> None:
        """End everything; nothing is left."""
        sandbox.close_sandbox(self.sandbox.number)
        for process in (*self._processes.values(), self.sandbox.launcher):
            if process:
                process.wait()

    def _write_files(self) -> None:
        net = self.network
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        authority = components.keys(self.pki, (*names, "127.0.0.1", net.node, str(net.services[1])))
        users = {
            "scheduler": ("system:kube-scheduler", ""),
            "kubelet": (f"system:node:{NAME}", "system:nodes"),
            "kube-proxy": ("system:kube-proxy", ""),
        }
        self._clients(authority, {**components.CLIENTS, **users})
        authority.issue("kubelet-server", f"system:node:{NAME}", "system:nodes", hosts=(NAME, net.node))
        authority.issue("apiserver-kubelet", "kube-apiserver", "ixt:kubelet-clients")
        certificates.Authority.create(self.pki, "front-proxy-ca").issue("front-proxy", "front-proxy")
        (self.folder / "cni").mkdir()
        (self.folder / "resolv.conf").touch()
        values = {
            "FOLDER": self.folder,
            "NODE": NAME,
            "ADDRESS": net.node,
            "DNS": self.dns,
            "PODS": net.pods,
            "RUNC": binaries.path("runc"),
            "CNI_BIN": binaries.path("ptp").parent,
        }
        for file, target in {
            "containerd.toml": "containerd.toml",
            "kubelet.yaml": "kubelet.yaml",
            "kube-proxy.yaml": "kube-proxy.yaml",
            "cluster.yaml": "cluster.yaml",
            "cni.json": "cni/pods.conflist",
        }.items():
            text = (CONF / file).read_text()
            for name, value in values.items():
                text = text.replace(f"@{name}@", str(value))
            (self.folder / target).write_text(text)

    def _containerd_answers(self) -> bool:
        command = self.sandbox.command(str(binaries.path("ctr")), "-a", CONTAINERD, "version")
        return not subprocess.run(command, capture_output=True, check=False).returncode

    def _apiserver(self) -> list[str]:
        return components.kube_apiserver(
            self.network.node,
            PORT,
            str(self.network.services),
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--kubelet-client-certificate=pki/apiserver-kubelet.crt",
            "--kubelet-client-key=pki/apiserver-kubelet.key",
            "--kubelet-certificate-authority=pki/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            "--requestheader-client-ca-file=pki/front-proxy-ca.crt",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            "--proxy-client-cert-file=pki/front-proxy.crt",
            "--proxy-client-key-file=pki/front-proxy.key",
        )

    def _scheduler(self) -> list[str]:
        return [
            str(binaries.path("kube-scheduler")),
            *(f"--{use}kubeconfig=scheduler.kubeconfig" for use in components.KUBECONFIGS),
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--kube-api-qps=300",
            "--kube-api-burst=600",
        ]

    def _kubelet(self) -> list[str]:
        return [
            str(binaries.path("kubelet")),
            "--config=kubelet.yaml",
            "--kubeconfig=kubelet.kubeconfig",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--hostname-override={NAME}",
            f"--node-ip={self.network.node}",
        ]

    def _popen(self, command: Sequence[str], log: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.sandbox.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _kill(self, process: "subprocess.Popen[bytes]") -> None:
        sandbox.kill(sandbox.child(process.pid) or process.pid)


def up(number: int | None = None, *, outlives_owner: bool = False) -> NodeCluster:
    """A cluster that is ready for use. `number` and `outlives_owner` as in `open_sandbox`."""
    box = sandbox.open_sandbox(number, NAME, outlives_owner=outlives_owner)
    cluster = NodeCluster(box)
    try:
        cluster.bring_up()
    except BaseException:
        cluster.down()
        raise
    return cluster


@contextmanager
def node_cluster() -> Iterator[NodeCluster]:
    """A cluster of this process's own, which ends with it."""
    cluster = up()
    try:
        yield cluster
    finally:
        cluster.down()


def load_images(sandbox: Sandbox, archive: Path) -> None:
    """Bring the images of an OCI or docker archive, which lies anywhere on this machine, onto a node."""
    ctr = (str(binaries.path("ctr")), "-a", CONTAINERD, "-n", "k8s.io")
    sandbox.run(*ctr, "images", "import", "--all-platforms", str(archive))
