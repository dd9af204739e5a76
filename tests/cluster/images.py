"""The images that tests use, made of programs of this machine: nothing is pulled.

ixt.test/pause:1    what holds a pod's namespaces
ixt.test/busybox:1  busybox with all its applets
ixt.test/host:1     an empty root whose /bin, /lib, /lib64 and /sbin point into /usr: for pods that mount this
                    machine's /usr and a Python read-only (see python.py)
ixt.test/coredns:1  the cluster's DNS server
"""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"
USERS = {"etc/passwd": PASSWD, "etc/group": GROUP}
LOOK_UP = "passwd: files\ngroup: files\nhosts: files dns\n"
WAIT = "trap exit TERM INT; while :; do sleep 86400 & wait; done"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

Files = Mapping[str, bytes | str]
"""Content of a program (bytes), text of a file, or for a link its target after `->`."""


def archive(file: Path, coredns: Path) -> None:
    """Write all images as one OCI archive."""
    busybox = BUSYBOX.read_bytes()
    listed = subprocess.run([str(BUSYBOX), "--list"], capture_output=True, text=True, check=True)
    applets = {f"bin/{name}": "->busybox" for name in listed.stdout.split() if name != "busybox"}
    shell = {"bin/busybox": busybox, **applets}
    with _Archive(file) as images:
        images.add("ixt.test/pause:1", shell, {"Entrypoint": ["/bin/sh", "-c", WAIT], "Env": ["PATH=/bin"]})
        images.add("ixt.test/busybox:1", {**shell, **USERS}, {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]})
        _add_host(images, "ixt.test/host:1", {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin"}, {})
        program = {"bin/coredns": coredns.read_bytes(), **USERS}
        images.add("ixt.test/coredns:1", program, {"Entrypoint": ["/bin/coredns"], "Env": ["PATH=/bin"]})


def host_python(file: Path, name: str, env: Mapping[str, str], files: Files) -> None:
    """Write an archive of one image, as ixt.test/host:1 with these files and environment besides."""
    with _Archive(file) as images:
        _add_host(images, name, env, files)


def _add_host(images: "_Archive", name: str, env: Mapping[str, str], files: Files) -> None:
    usr = {folder: f"->usr/{folder}" for folder in ("bin", "sbin", "lib", "lib64")}
    env = {"HOME": "/tmp", "LANG": "C.UTF-8", **env}
    images.add(
        name,
        {**USERS, "etc/nsswitch.conf": LOOK_UP, **usr, **files},
        {"Cmd": ["/bin/sh"], "Env": [f"{key}={value}" for key, value in env.items()]},
        folders=("usr", "root", "proc", "sys", "dev", "var", "run"),
    )


class _Archive:
    """An OCI image layout in a tar file (https://github.com/opencontainers/image-spec)."""

    def __init__(self, file: Path) -> None:
        self._tar = tarfile.open(file, "w")  # noqa: SIM115 - closed on exit
        self._written: set[str] = set()
        self._manifests: list[dict[str, Any]] = []

    def __enter__(self) -> "_Archive":
        return self

    def __exit__(self, *_: object) -> None:
        _put(self._tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        index = {"schemaVersion": 2, "manifests": self._manifests}
        _put(self._tar, "index.json", json.dumps(index).encode())
        self._tar.close()

    def add(self, name: str, files: Files, config: Mapping[str, Any], folders: tuple[str, ...] = ()) -> None:
        """Add an image of one layer."""
        layer = self._blob("image.layer.v1.tar", _layer(files, folders))
        image = {"architecture": ARCHITECTURE, "os": "linux", "config": config}
        image["rootfs"] = {"type": "layers", "diff_ids": [layer["digest"]]}
        made = self._blob("image.config.v1+json", json.dumps(image).encode())
        kind = "image.manifest.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"application/vnd.oci.{kind}",
            "config": made,
            "layers": [layer],
        }
        named = {"annotations": {"io.containerd.image.name": name}}
        self._manifests.append(self._blob(kind, json.dumps(manifest).encode()) | named)

    def _blob(self, kind: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._written:
            self._written.add(digest)
            _put(self._tar, f"blobs/sha256/{digest}", data)
        return {"mediaType": f"application/vnd.oci.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def _layer(files: Files, folders: tuple[str, ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder in dict.fromkeys(("tmp", *(name.rpartition("/")[0] for name in files), *folders)):
            if folder:
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
                layer.addfile(entry)
        for name, content in files.items():
            if isinstance(content, bytes):
                _put(layer, name, content, 0o755)
            elif content.startswith("->"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, content[2:], 0o777
                layer.addfile(entry)
            else:
                _put(layer, name, content.encode())
    return buffer.getvalue()


def _put(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))
