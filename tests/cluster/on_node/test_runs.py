"""From `helm install` and `kubectl apply` to Complete in real pods, over stub steps."""

from cluster.on_node.operating import Site


def test_from_apply_to_complete(site: Site) -> None:
    site.apply()
    site.wait("Complete")
    status = site.status()
    assert status["summary"]["progressPercent"] == 100
    assert {step["state"] for stage in status["stages"] for step in stage["steps"]} == {"Complete"}
    artifacts = {path.parent.name for path in site.volume.glob("runs/artifacts/*/manifest.json")}
    assert {step["key"] for stage in status["stages"] for step in stage["steps"]} <= artifacts
