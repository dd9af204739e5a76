"""The operator's image, built by its own Dockerfile on a base of Debian's packages: no registry of images.

Needs root, debootstrap and buildah. The base, which takes a minute, is kept in $IXT_CACHE_DIR.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from cluster import binaries

ROOT = Path(__file__).parents[2]
IMAGE = "ixt.test/operator"
TAG = "test"
SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
MOUNTED = ("/etc/pip.conf", "/etc/ssl/certs")
"""This machine's settings for pip: shown to the build, not kept in the image."""


class ImageError(RuntimeError):
    """The image could not be built; the message has what the tool said."""


def build(archive: Path, name: str = f"{IMAGE}:{TAG}") -> None:
    """Write the image, by that name, as an archive that `load_images` takes. Raises ImageError."""
    root = base()
    with tempfile.TemporaryDirectory() as storage:
        tool = ("buildah", "--storage-driver=vfs", f"--root={storage}/root", f"--runroot={storage}/run")
        recipe = Path(storage, "base")
        recipe.write_text(f"FROM scratch\nADD {root.name} /\n")
        bud = (*tool, "bud", "--isolation=chroot", "--layers=false")
        _run(*bud, f"--file={recipe}", "--tag=localhost/base", str(root.parent))
        mounts = [f"--volume={path}:{path}:ro" for path in MOUNTED if Path(path).exists()]
        dockerfile = f"--file={ROOT / 'operator/Dockerfile'}"
        _run(*bud, "--build-arg=BASE=localhost/base", *mounts, dockerfile, f"--tag={name}", str(ROOT))
        _run(*tool, "push", name, f"docker-archive:{archive}:{name}")


def base() -> Path:
    """A root file system with Python, as a tar file; made once. Raises ImageError."""
    kept = binaries.cache() / "base" / f"{SUITE}-{'-'.join(PACKAGES)}.tar"
    if not kept.exists():
        print("making the base of the operator's image (about a minute, once)", file=sys.stderr, flush=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            root, fresh = f"{scratch}/root", Path(scratch, "root.tar")
            _run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root)
            unneeded = ("./var/cache/apt/archives", "./var/lib/apt/lists", "./usr/share/doc", "./dev")
            excluded = [f"--exclude={path}/*" for path in unneeded]
            _run("tar", "--create", f"--file={fresh}", f"--directory={root}", *excluded, ".")
            fresh.rename(kept)
    return kept


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise ImageError(f"`{' '.join(command)}` failed: {said}")
