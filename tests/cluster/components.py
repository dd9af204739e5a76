"""Command lines of the programs that both levels run, and the keys that they share.

etcd listens on a socket in the cluster's folder, which is the working directory of all programs: it needs no
port and nobody else on the machine reaches it.
"""

from pathlib import Path

from cluster import binaries, certificates

ETCD = "unix://etcd.sock"
KUBECONFIGS = ("", "authentication-", "authorization-")
"""What a component uses a kubeconfig for."""
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
}


def keys(pki: Path, hosts: tuple[str, ...]) -> certificates.Authority:
    """Write an authority, the API server's certificate for its names, and the service accounts' key."""
    authority = certificates.Authority.create(pki, "ca")
    authority.issue("apiserver", "kube-apiserver", hosts=hosts)
    certificates.private_key(pki / "service-accounts.key")
    return authority


def etcd() -> list[str]:
    """Without fsync: nothing of it outlives the machine."""
    peers = "unix://etcd-peers.sock"
    return [
        str(binaries.path("etcd")),
        "--name=ixt",
        "--data-dir=etcd",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=ixt={peers}",
    ]


def kube_apiserver(address: str, port: int, services: str, *more: str) -> list[str]:
    """The API server on an address."""
    return [
        str(binaries.path("kube-apiserver")),
        f"--etcd-servers={ETCD}",
        f"--advertise-address={address}",
        f"--secure-port={port}",
        f"--service-cluster-ip-range={services}",
        "--allow-privileged=true",
        "--client-ca-file=pki/ca.crt",
        "--tls-cert-file=pki/apiserver.crt",
        "--tls-private-key-file=pki/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file=pki/service-accounts.key",
        "--service-account-signing-key-file=pki/service-accounts.key",
        *more,
    ]


def kube_controller_manager(*more: str) -> list[str]:
    """The controllers. At the default rate of requests each would start seconds later."""
    return [
        str(binaries.path("kube-controller-manager")),
        *(f"--{use}kubeconfig=controller-manager.kubeconfig" for use in KUBECONFIGS),
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--service-account-private-key-file=pki/service-accounts.key",
        "--root-ca-file=pki/ca.crt",
        "--cluster-signing-cert-file=pki/ca.crt",
        "--cluster-signing-key-file=pki/ca.key",
        *more,
    ]
