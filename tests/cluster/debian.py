"""What a cluster, and what pictures of dashboards need of Debian: installed when root asks for it and it is
missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

CLUSTER = (
    "buildah",
    "busybox-static",
    "debootstrap",
    "gcc",
    "iproute2",
    "libc6-dev",
    "libseccomp-dev",
    "nftables",
    "pkg-config",
    "util-linux",
)
"""libseccomp-dev, gcc and pkg-config build runc; the images are made of busybox; buildah
and debootstrap make the operator's."""
PICTURES = ("chromium", "fonts-inter")


def install(packages: Sequence[str]) -> None:
    """Install those that are missing, saying so. Raises SystemExit with what to do instead."""
    missing = [name for name in packages if not _installed(name)]
    if not missing:
        return
    words = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"missing packages: install {words} (Debian's names), or run this as root on Debian")
    print(f"installing {words}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    install = [*get, "install", "--no-install-recommends", "-y", *missing]
    # The lists of a fresh machine are empty or old.
    for command in ([*get, "update"], install):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
            sys.exit(f"`{' '.join(command)}` failed: see above")


def _installed(package: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"
    except FileNotFoundError:
        sys.exit(f"no dpkg here: install {package} (Debian's name) by other means")
