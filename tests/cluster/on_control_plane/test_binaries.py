"""Programs are built once for each version and wrapper, and said to be."""

import os
import shutil
from pathlib import Path

import pytest
from cluster import binaries


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IXT_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def test_a_program_is_built_once_and_announced(empty_cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert binaries.find("loopback") is None
    binaries.build(["loopback"])
    assert capfd.readouterr().err.startswith("building loopback 1.9.1 (about 1 minute, once)\n")
    assert os.access(binaries.path("loopback"), os.X_OK)
    assert binaries.path("loopback").parent.name.startswith("cni-1.9.1-")
    binaries.build(["loopback"])
    assert capfd.readouterr().err == ""


def test_a_changed_wrapper_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = binaries.folder("coredns")
    shutil.copytree(binaries.GO, tmp_path / "go")
    monkeypatch.setattr(binaries, "GO", tmp_path / "go")
    assert binaries.folder("coredns") == before
    with (tmp_path / "go/coredns/main.go").open("a") as main:
        main.write("// one plugin more\n")
    assert binaries.folder("coredns") != before


def test_programs_in_kubebuilder_assets_are_taken_as_they_are(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl = empty_cache / "kubectl"
    kubectl.touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(empty_cache))
    assert binaries.path("kubectl") == kubectl
    assert binaries.find("kube-apiserver") is None


def test_without_go_it_says_what_is_needed(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(empty_cache))
    with pytest.raises(binaries.BinaryError, match="Go is needed to build etcd, kubectl: install it"):
        binaries.build(["etcd", "kubectl"])
    with pytest.raises(binaries.BinaryError, match="kubectl is not built: make"):
        binaries.path("kubectl")
    with pytest.raises(binaries.BinaryError, match="no program kubelett: choose of cluster, control-plane"):
        binaries.build(["kubelett"])
