"""README's commands and manifests do what it says; `make quickstart` itself is too long for here."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ixt_operator.api.run import IXTRun
from ixt_operator.cli import ixt, kubectl
from ixt_operator.manifests.loading import loads

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.partition("#")[0].split()
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def of(program: str) -> list[list[str]]:
    """README's commands of one program, without its name."""
    return [words[1:] for words in COMMANDS if words[0] == program]


@pytest.mark.parametrize("target", sorted({target for words in of("make") for target in words}))
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("verb", sorted({words[0] for words in of("ixt")}))
def test_a_verb_of_ixt_explains_itself(verb: str) -> None:
    shown = CliRunner().invoke(ixt.app, [verb, "--help"])
    assert shown.exit_code == 0
    assert f"ixt {verb}" in shown.output


def test_the_verbs_of_the_plugin_are_those_named() -> None:
    named = re.search(r"`kubectl ixt` also has (`.*?`)\. ", README.replace("\n", " "))
    assert named
    commands = kubectl.app.registered_commands
    verbs = {command.name or command.callback.__name__ for command in commands if command.callback}
    shown = {words[1] for words in of("kubectl") if words[0] == "ixt"}
    assert shown | set(re.findall(r"`([a-z]+)`", named[1])) == verbs


def test_the_manifest_is_valid() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (run,) = loads(text, "README.md", ROOT)
    assert isinstance(run, IXTRun)


def test_files_that_are_named_are_there() -> None:
    named = [*re.findall(r"`((?:docs|examples|charts|benchmarks|tests)/[^`\s]*)`", README)]
    named += [word for words in COMMANDS for word in words if re.match(r"(docs|examples|charts)/", word)]
    named += re.findall(r"\]\((docs/[^)]*)\)", README)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_command_is_one_line_of_a_shell() -> None:
    assert all(shlex.split(" ".join(words)) for words in COMMANDS)
