"""etcd, API server and controller manager as plain processes on loopback. No root; several side by side."""

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import components
from cluster.base import Cluster

SERVICES = "10.96.0.0/16"
"""Addresses that Services are given. Nothing routes them here."""


class ControlPlane(Cluster):
    """Objects are stored, validated, garbage-collected; Jobs make pods, which no node runs."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, f"https://127.0.0.1:{port}")
        self.port = port
        authority = components.keys(self.pki, ("localhost", "127.0.0.1"))
        self._clients(authority, components.CLIENTS)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def _popen(self, command: Sequence[str], log: int) -> "subprocess.Popen[bytes]":
        """In a session of its own: Ctrl-C reaches the owner, who ends it. It dies with the thread that starts
        it, so with the owner."""
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _kill(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()


@contextmanager
def control_plane(folder: Path, *apiserver: str, crds: Path | None = None) -> Iterator[ControlPlane]:
    """A control plane in an empty folder, ready for use. `apiserver` are more options of the API server.

    CRDs in the folder `crds` are there before the controllers are: these would see later ones half a minute
    after, and collect no garbage of theirs until then.
    """
    with socket.socket() as reserved:
        # A port that nobody else is given while the API server is down: bound here, never listened to.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        plane = ControlPlane(folder, reserved.getsockname()[1])
        try:
            plane.run("etcd", components.etcd())
            more = (
                "--bind-address=127.0.0.1",
                "--permit-port-sharing",
                "--authorization-mode=RBAC",
                # Its address would become that of the Service kubernetes, which may not be loopback.
                "--endpoint-reconciler-type=none",
            )
            command = components.kube_apiserver("127.0.0.1", plane.port, SERVICES, *more, *apiserver)
            plane.run("kube-apiserver", command)
            plane.until(lambda: plane.answers("/readyz"), "API server")
            if crds:
                kubectl = plane.kubectl()
                kubectl("apply", "--server-side", "-f", str(crds))
                # kubectl gives up on CRDs that have no conditions at all yet.
                established = ("wait", "--for=condition=Established", "--timeout=30s", "-f", str(crds))
                plane.until(lambda: kubectl.run(*established).returncode == 0, "CRDs")
            # Nodes are what tests say they are: no kubelet says for them that they live.
            more = ("--secure-port=0", "--controllers=*,-node-lifecycle-controller")
            plane.run("kube-controller-manager", components.kube_controller_manager(*more))
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            plane.until(lambda: plane.answers(account), "controllers")
            yield plane
        finally:
            for name in reversed([*plane._processes]):
                plane.stop(name)
