"""`kubectl ixt` as a user starts it."""

from pathlib import Path

from cluster.on_node.operating import Site


def test_the_plugin_tells_of_a_run(site: Site, tmp_path: Path) -> None:
    site.apply()
    site.wait("Complete")
    told = site.kubectl.ixt("status", "test")
    assert "Complete" in told
    assert "model conditioned-s0@pretrain: pvc://" in told
    logs = site.kubectl.ixt("logs", "test", "train/conditioned")
    assert all(line.startswith("[pod/") for line in logs.splitlines())
    assert "Committed" in logs
    assert "pretrain/prepare/conditioned" in site.kubectl.ixt("why", "test", "pretrain/prepare/conditioned")
    site.kubectl.ixt("report", "test", "-o", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text().endswith("<p>a stub wrote it</p>")
    assert site.kubectl.ixt("report", "test", "--markdown") == "**a stub wrote it**\n"
