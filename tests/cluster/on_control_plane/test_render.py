"""What `ixt render` prints, before a real API server in a namespace of the restricted Pod Security level."""

from pathlib import Path

import pytest
import yaml
from cluster.kubectl import Kubectl
from typer.testing import CliRunner

from ixt_operator.cli.ixt import app
from ixt_operator.manifests.documents import dump, yaml_documents

FILES = sorted((Path(__file__).parents[3] / "examples").glob("*/*.yaml"))
EXAMPLES = [file for file in FILES if "kind: IXTRun" in file.read_text()]
LEVEL = "pod-security.kubernetes.io"


@pytest.fixture
def restricted(kubectl: Kubectl) -> Kubectl:
    labels = [f"{LEVEL}/{mode}=restricted" for mode in ("enforce", "warn")]
    kubectl("label", "namespace", kubectl.namespace, *labels)
    return kubectl


@pytest.mark.parametrize("runtime", ["cpu", "nvidia"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_manifest_of_an_example_is_accepted_without_warning(
    restricted: Kubectl, tmp_path: Path, example: Path, runtime: str
) -> None:
    file = tmp_path / "run.yaml"
    manifest = yaml.safe_load(example.read_text())
    manifest["spec"]["runtimeRef"] = {"name": runtime}
    file.write_text(dump(manifest))
    shown = CliRunner().invoke(app, ["render", str(file), "-n", restricted.namespace])
    assert shown.exit_code == 0, shown.output
    done = restricted.run("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=shown.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(" created (server dry run)\n") == len(list(yaml_documents(shown.stdout)))


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file not in EXAMPLES],
    ids=lambda file: f"{file.parent.name}-{file.stem}",
)
def test_what_fills_a_volume_is_accepted_without_warning(restricted: Kubectl, file: Path) -> None:
    done = restricted.run("create", "--dry-run=server", "--validate=strict", "-f", str(file))
    assert (done.returncode, done.stderr) == (0, "")
