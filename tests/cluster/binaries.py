"""The programs of a cluster, each built once from its Go module.

A folder of go/ is a wrapper module that pins one release with all its dependencies (go.mod, go.sum). What is
built from it lies in CACHE/bin/<module>-<version>-<fingerprint>/, CACHE being $IXT_CACHE_DIR or ~/.cache/ixt
and the fingerprint that of the wrapper. Programs in $KUBEBUILDER_ASSETS are taken as they are. Needs only the
standard library.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GO = Path(__file__).parent / "go"


class BinaryError(RuntimeError):
    """A program is missing and cannot be built; the message says what to do."""


@dataclass(frozen=True)
class Module:
    """A wrapper module and what is built from it."""

    folder: str
    path: str
    """The module whose version counts."""
    programs: Mapping[str, tuple[str, float]]
    """Package of each program, and the minutes that a build from nothing takes on two cores."""
    version_variables: tuple[str, ...] = ()
    """Variables of the program that say its version, set by the linker."""
    tags: str = ""
    cgo: bool = False

    @property
    def version(self) -> str:
        """The release that go.mod pins, without the v."""
        found = re.search(rf"{re.escape(self.path)} v(\S+)", (GO / self.folder / "go.mod").read_text())
        if found is None:
            raise BinaryError(f"{GO / self.folder / 'go.mod'} does not pin {self.path}")
        return found[1]

    @property
    def linker_flags(self) -> str:
        """Stripped, with the version in it: the API server's is checked by charts."""
        major, minor, *_ = self.version.split(".")
        values = {"gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        flags = ["-s", "-w"]
        for variable in self.version_variables:
            package, _, name = variable.rpartition(".")
            flags.append(f"-X={variable}=v{self.version}")
            if name == "gitVersion":
                flags += [f"-X={package}.{key}={value}" for key, value in values.items()]
        return " ".join(flags)


KUBERNETES = "k8s.io/kubernetes/cmd/"
CONTAINERD = "github.com/containerd/containerd/v2"
CNI = "github.com/containernetworking/plugins"
PROMETHEUS = "github.com/prometheus/prometheus"
KUEUE = "sigs.k8s.io/kueue"
TRAINER = "github.com/kubeflow/trainer/v2"
JOBSET = "sigs.k8s.io/jobset"

MODULES = (
    Module("etcd", "go.etcd.io/etcd/server/v3", {"etcd": (".", 1)}),
    Module(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            "kube-apiserver": (KUBERNETES + "kube-apiserver", 3),
            "kube-controller-manager": (KUBERNETES + "kube-controller-manager", 1),
            "kubectl": (KUBERNETES + "kubectl", 1),
            "kube-scheduler": (KUBERNETES + "kube-scheduler", 1),
            "kubelet": (KUBERNETES + "kubelet", 1),
            "kube-proxy": (KUBERNETES + "kube-proxy", 1),
        },
        version_variables=(
            "k8s.io/component-base/version.gitVersion",
            "k8s.io/client-go/pkg/version.gitVersion",
        ),
    ),
    Module(
        "containerd",
        CONTAINERD,
        {
            "containerd": (f"{CONTAINERD}/cmd/containerd", 1),
            "ctr": (f"{CONTAINERD}/cmd/ctr", 1),
            "containerd-shim-runc-v2": (f"{CONTAINERD}/cmd/containerd-shim-runc-v2", 1),
        },
        version_variables=(f"{CONTAINERD}/version.Version",),
        tags="no_btrfs no_devmapper no_zfs",
    ),
    # seccomp is what Pod Security's restricted level asks for; it is a C library.
    Module(
        "runc",
        "github.com/opencontainers/runc",
        {"runc": ("github.com/opencontainers/runc", 1)},
        version_variables=("main.version",),
        tags="seccomp urfave_cli_no_docs",
        cgo=True,
    ),
    Module(
        "cni",
        CNI,
        {
            "ptp": (f"{CNI}/plugins/main/ptp", 1),
            "loopback": (f"{CNI}/plugins/main/loopback", 1),
            "host-local": (f"{CNI}/plugins/ipam/host-local", 1),
            "portmap": (f"{CNI}/plugins/meta/portmap", 1),
        },
        version_variables=(f"{CNI}/pkg/utils/buildversion.BuildVersion",),
    ),
    Module("coredns", "github.com/coredns/coredns", {"coredns": (".", 1)}),
    Module("helm", "helm.sh/helm/v4", {"helm": ("helm.sh/helm/v4/cmd/helm", 2)}),
    Module(
        "versitygw",
        "github.com/versity/versitygw",
        {"versitygw": ("github.com/versity/versitygw/cmd/versitygw", 2)},
    ),
    # Targets come from its configuration and from Kubernetes, no other service discovery.
    Module(
        "prometheus",
        PROMETHEUS,
        {
            "prometheus": (f"{PROMETHEUS}/cmd/prometheus", 3),
            "promtool": (f"{PROMETHEUS}/cmd/promtool", 1),
        },
        version_variables=("github.com/prometheus/common/version.Version",),
        tags="remove_all_sd enable_kubernetes_sd",
    ),
    Module(
        "kueue",
        KUEUE,
        {"kueue": (f"{KUEUE}/cmd/kueue", 3)},
        version_variables=(f"{KUEUE}/pkg/version.GitVersion",),
    ),
)
PEERS = (
    Module("trainer", TRAINER, {"trainer": (f"{TRAINER}/cmd/trainer-controller-manager", 2)}),
    Module("trainer", JOBSET, {"jobset": (JOBSET, 1)}),
)
"""What benchmarks measure against; no cluster of the tests needs it."""

MODULE_OF = {program: module for module in (*MODULES, *PEERS) for program in module.programs}
GROUPS = {
    "cluster": tuple(program for module in MODULES for program in module.programs),
    "control-plane": ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "kueue"),
    "prometheus": ("prometheus", "promtool"),
    "peers": tuple(program for module in PEERS for program in module.programs),
}
"""Names of several programs at once."""


def find(program: str) -> Path | None:
    """Where a program lies, if it does."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and os.access(Path(assets, program), os.X_OK):
        return Path(assets, program).absolute()
    built = folder(program) / program
    return built if built.exists() else None


def path(program: str) -> Path:
    """Where a program lies. Raises BinaryError when it was not built."""
    found = find(program)
    if found is None:
        raise BinaryError(f"{program} is not built: make cluster-binaries builds what a cluster needs, once")
    return found


def folder(program: str) -> Path:
    """The folder that a program is built into."""
    module = MODULE_OF[program]
    return cache() / "bin" / f"{module.folder}-{module.version}-{_fingerprint(module)}"


def sources(program: str) -> Path:
    """The folder of a program's module in Go's module cache, with the manifests of its release. Raises
    BinaryError."""
    module = MODULE_OF[program]
    done = subprocess.run(
        ["go", "mod", "download", "-json", module.path],
        cwd=GO / module.folder,
        env={**os.environ, "GOWORK": "off"},
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise BinaryError(f"the module of {program} cannot be had: go's own words are above")
    return Path(json.loads(done.stdout)["Dir"])


def build(programs: Iterable[str]) -> None:
    """Build what is missing, saying so. Raises BinaryError."""
    programs = [*programs]
    if unknown := set(programs) - MODULE_OF.keys():
        raise BinaryError(f"no program {', '.join(unknown)}: choose of {', '.join([*GROUPS, *MODULE_OF])}")
    missing = [program for program in programs if find(program) is None]
    if not missing:
        return
    if shutil.which("go") is None:
        raise BinaryError(
            f"Go is needed to build {', '.join(missing)}: install it (https://go.dev/doc/install)"
        )
    with _alone():
        for program in missing:
            if find(program) is None:
                _build(program)


def _build(program: str) -> None:
    module = MODULE_OF[program]
    package, minutes = module.programs[program]
    time = f"about {minutes:g} minute{'s' if minutes > 1 else ''}, once"
    print(f"building {program} {module.version} ({time})", file=sys.stderr, flush=True)
    target = folder(program)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        command = ["go", "build", "-mod=readonly", "-buildvcs=false", "-tags", module.tags]
        command += ["-ldflags", module.linker_flags, "-o", f"{scratch}/{program}", package]
        environment = {**os.environ, "CGO_ENABLED": "1" if module.cgo else "0", "GOWORK": "off"}
        if subprocess.run(command, cwd=GO / module.folder, env=environment, check=False).returncode:
            raise BinaryError(f"{program} could not be built: go's own words are above")
        Path(scratch, program).rename(target / program)


@contextmanager
def _alone() -> Iterator[None]:
    """Only one process builds at a time; the others find what it made."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cache() -> Path:
    """Where what is built once is kept."""
    return Path(os.environ.get("IXT_CACHE_DIR") or Path.home() / ".cache/ixt").absolute()


def _fingerprint(module: Module) -> str:
    """Of all that decides what is built, so that a changed wrapper is built anew."""
    digest = hashlib.sha256(f"{module.linker_flags}|{module.tags}|{module.cgo}".encode())
    for file in sorted((GO / module.folder).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]
