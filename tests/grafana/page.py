"""The page that draws: installed by npm and built once, then kept in the cache.

What npm installs lies in CACHE/grafana/modules-<fingerprint of package.json>, what is built of it in
CACHE/grafana/page-<fingerprint of that and the sources>, CACHE being $IXT_CACHE_DIR or ~/.cache/ixt. What
nobody has used for a week goes when something is built.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
KEPT_SECONDS = 7 * 86400
"""For how long a folder stays that nobody uses: checkouts beside each other have pages of their own."""
QUIETLY = ("--no-audit", "--no-fund", "--loglevel=error")
INSTALL = ("npm", "install", "--package-lock=false", "--ignore-scripts", *QUIETLY)


class PageError(RuntimeError):
    """The page is missing and cannot be built, or it failed; the message says how."""


def build() -> Path:
    """The folder of the built page; what is missing is installed and built first. Raises PageError."""
    sources = [HERE / "package.json", HERE / "tsconfig.json", *sorted((HERE / "src").rglob("*.ts*"))]
    page = _cache() / f"page-{_fingerprint(sources)}"
    modules = _cache() / f"modules-{_fingerprint([HERE / 'package.json'])}"
    if (page / "dist").is_dir() and modules.is_dir():
        _use(page, modules)
        return page
    if shutil.which("npm") is None:
        raise PageError("Node 20 or newer and npm are needed to draw dashboards")
    with _alone():
        if not modules.is_dir():
            _install(modules)
        if not (page / "dist").is_dir():
            _build(page, modules)
        _use(page, modules)
        _sweep()
    return page


def _use(*folders: Path) -> None:
    for folder in folders:
        os.utime(folder)


def _sweep() -> None:
    """Remove what nobody has used for long, and what a build that was killed left behind."""
    for folder in _cache().iterdir():
        if folder.is_dir() and folder.stat().st_mtime < time.time() - KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _install(modules: Path) -> None:
    _say("installing Grafana's components (660 MB, about two minutes, once)")
    with _scratch() as scratch:
        shutil.copy(HERE / "package.json", scratch)
        _run(scratch, *INSTALL)
        scratch.rename(modules)


def _build(page: Path, modules: Path) -> None:
    _say("building the page that draws dashboards (about half a minute)")
    with _scratch() as scratch:
        for name in ("package.json", "tsconfig.json"):
            shutil.copy(HERE / name, scratch)
        shutil.copytree(HERE / "src", scratch / "src")
        (scratch / "node_modules").symlink_to(Path("..", modules.name, "node_modules"))
        _run(scratch, "npm", "run", "--silent", "build")
        scratch.rename(page)


def shoot(job: Path, out: Path, scale: float) -> str:
    """Draw a job; returns the page's answer. Raises PageError."""
    command = ["node", str(build() / "dist/shoot.js"), str(job), str(out), str(scale)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise PageError(f"{out.name} could not be drawn: {done.stderr.strip()}")
    return done.stdout


def _run(folder: Path, *command: str) -> None:
    if subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False).returncode:
        raise PageError(f"`{' '.join(command)}` failed: its own words are above")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder beside the others, so that what is done in it appears at once; gone if it was not renamed."""
    folder = Path(tempfile.mkdtemp(dir=_cache()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone() -> Iterator[None]:
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cache() -> Path:
    return Path(os.environ.get("IXT_CACHE_DIR") or Path.home() / ".cache/ixt").absolute() / "grafana"


def _fingerprint(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(HERE)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:8]
