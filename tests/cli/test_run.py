"""`ixt run`: from nothing to a report, again, on a terminal and in a pipe."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from make import cli, runs
from make.cli import IXT, PLAIN_NODES, Desk
from make.terminal import Screen, on_terminal

IMPATIENT = Path(__file__).with_name("impatient.py")
COMMAND = [IXT, "run", "run.yaml", "--runtime", "stubs.yaml"]


def test_from_nothing_to_a_report(desk: Desk) -> None:
    done = desk.run()
    assert done.code == 0
    assert done.err == ""
    assert re.findall(r"StepStarted: (\S+)", done.out) == [
        "pretrain/inventory",
        "pretrain/prepare/plain",
        "pretrain/train/plain",
        "pretrain/evaluate/plain",
        "report",
    ]
    reached = r"^[\d:]{8} StepComplete: pretrain/train/plain \w+ \(a stub did it\) in \d+s$"
    assert re.search(reached, done.out, re.MULTILINE)
    *_, ended, last = done.out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d RunComplete: all 5 steps are committed", ended)
    page = last.removeprefix("Complete. Report: ")
    assert (desk.folder / page).read_text().endswith("<p>a stub wrote it</p>")
    keys = desk.node_keys()
    assert list(keys) == list(PLAIN_NODES)
    assert desk.manifests().keys() == set(keys.values())
    # The workdir stands for the run too.
    assert desk.ixt("status", ".ixt/test") == desk.ixt("status", "run.yaml")
    assert desk.ixt("report", ".ixt/test").out.strip() == page
    assert desk.ixt("report", ".ixt/test", "--markdown").out == "**a stub wrote it**\n"
    assert desk.ixt("status", "here").err == "here:1: cannot be read: No such file or directory\n"


def test_again_everything_is_cached(judged: Desk) -> None:
    """And nothing is started but Inventory, which says so: no server above all."""
    first = judged.run()
    assert first.code == 0
    assert "judge" in " ".join(path.name for path in judged.logs.iterdir())
    before, logs = judged.committed(), {path.name for path in judged.logs.iterdir()}
    again = judged.run()
    assert again.code == 0
    assert re.findall(r"StepStarted: (\S+)", again.out) == ["pretrain/inventory"]
    assert re.findall(r"StepCached: (\S+) (\S+)", again.out) == re.findall(
        r"StepComplete: (\S+) (\S+)", first.out
    )
    assert again.out.splitlines()[-1] == first.out.splitlines()[-1]
    assert judged.committed() == before
    (new,) = {path.name for path in judged.logs.iterdir()} - logs
    assert "-inventory-" in new


def test_two_stages_of_two_arms_and_seeds(judged: Desk) -> None:
    chat = cli.stage(
        "sft",
        type="SFT",
        datasets=[{"name": "chats", "uri": "./documents.jsonl", "messagesField": "messages"}],
    )
    arms = [runs.arm("a", seeds=[0, 1]), runs.arm("b", "NextToken")]
    judged.write(stages=[cli.stage(), chat], arms=arms, maxParallelLanes=3)
    assert judged.run().code == 0
    assert len(keys := judged.node_keys()) == 25
    assert judged.manifests().keys() == set(keys.values())
    assert {node: judged.made(node) for node in keys} == dict.fromkeys(keys, 1)


def test_progress_in_a_pipe(desk: Desk) -> None:
    desk.tell({"pretrain/train/plain-s0": {"*": {"seconds": 8}}})
    done = desk.program([sys.executable, IMPATIENT, *COMMAND[1:]])
    assert done.code == 0
    figures = r"\d\d:\d\d:\d\d \d+% pretrain/train/plain-s0  \d+/1\.0k parts  \d+/s  \ds left  loss 3\.\d+"
    assert any(re.fullmatch(figures, line) for line in done.out.splitlines())


def test_another_run_takes_what_is_there(judged: Desk) -> None:
    """With the same storage and judge, at once: nobody waits for a claim of the judge's."""
    assert judged.run().code == 0
    judged.write(file="edited.yaml", name="other", arms=[runs.arm("b", samplePercent=20)])
    done = judged.ixt("run", "edited.yaml", "--runtime", "stubs.yaml")
    assert done.code == 0, done.err
    assert "StepCached: pretrain/annotate/0-15" not in done.out
    assert "StepComplete: pretrain/annotate/0-20" in done.out
    assert "StepCached: pretrain/annotate/holdout" in done.out
    assert "AttemptFailed" not in done.out


def test_a_dry_run_starts_nothing(desk: Desk) -> None:
    done = desk.run("--dry-run")
    assert done.code == 0
    said = done.out.splitlines()
    assert said[0].split() == ["run", "pretrain/inventory"]
    assert [line.split() for line in said[1:-1]] == [["run?", node] for node in PLAIN_NODES[1:]]
    assert "depends on Inventory's answer" in said[-1]
    assert not desk.workdir.exists()
    assert not desk.storage.exists()
    desk.run()
    desk.write(**cli.PLAIN, stages=[cli.stage(train={"optimizer": {"learningRate": "1e-3"}})])
    before = desk.committed()
    words = [line.split()[:2] for line in desk.run("--dry-run").out.splitlines() if line[0] != " "]
    assert words == [
        ["cached", "pretrain/inventory"],
        ["cached", "pretrain/prepare/plain"],
        ["run", "pretrain/train/plain-s0"],
        ["run", "pretrain/evaluate/plain-s0"],
        ["run", "report"],
    ]
    assert desk.committed() == before


def test_volume_claims_are_folders_of_the_workdir(desk: Desk) -> None:
    desk.write(**cli.PLAIN, storage={"uri": "pvc://results/runs"})
    done = desk.run("-w", "here")
    assert done.code == 1
    volume = desk.folder / "here/volumes/results"
    assert "pvc://results/runs is not mounted at here/volumes/results; mount the volume claim" in done.err
    volume.mkdir(parents=True)
    assert desk.run("-w", "here").code == 0
    assert (volume / "runs/artifacts").is_dir()
    assert "0 entries" in desk.ixt("gc", "run.yaml", "-w", "here").out


def test_a_storage_that_is_not_shared(desk: Desk) -> None:
    """Its folder bears the uid that the workdir gave the run, for every verb."""
    desk.write(**cli.PLAIN, storage={"uri": "./storage", "shared": "Disabled"})
    done = desk.run()
    assert done.code == 0, done.err
    (private,) = (desk.storage / "private").iterdir()
    assert (private / "artifacts").is_dir()
    assert [path.name for path in desk.storage.iterdir()] == ["private"]
    assert desk.ixt("report", "run.yaml").code == 0
    assert desk.run("--dry-run").out.count("cached") == 5


# --- On a terminal.


def test_a_live_tree_on_a_terminal(judged: Desk) -> None:
    judged.tell({"pretrain/train/conditioned-s0": {"*": {"seconds": 6}}})
    shown: list[str] = []

    def seen(screen: Screen, _: object) -> None:
        shown.append(screen.text)

    code, screen = on_terminal(COMMAND, judged.folder, judged.environment(), seen)
    assert code == 0
    assert screen.widest <= 80
    lines = screen.text.splitlines()
    assert re.fullmatch(r"test ━+ 100% Complete \d+s", lines[0])
    assert lines[1] == "└── pretrain"
    assert [line.split()[1:3] for line in lines[2:-1]] == [
        ["✔", "inventory"],
        ["✔", "annotate/0-15"],
        ["✔", "annotate/holdout"],
        ["✔", "prepare/conditioned"],
        ["✔", "train/conditioned"],
        ["✔", "evaluate/conditioned"],
        ["✔", "report"],
    ]
    assert re.fullmatch(r"Complete. Report: \.ixt/test/report/\w+/report.html", lines[-1])
    assert any(
        re.search(r"▶ train/conditioned +\d+/1.0k parts  \d+/s  \ds left  loss 3\.\d+\n", text)
        for text in shown
    )
    assert any(re.search(r"% Running \d+s, \ds left in train/conditioned-s0\n", text) for text in shown)
    assert any(
        re.search(r"the judge is starting, log: ?\n?\.ixt/test/logs/test-\S+-0\.log", text) for text in shown
    )
    assert not any(text.count("pretrain") > 3 for text in shown)  # one tree, redrawn in its place


def test_a_tree_higher_than_the_terminal(desk: Desk) -> None:
    """What runs is on it, and what does not fit is counted."""
    arms = [runs.arm(f"a{size}", "NextToken", tokensPercent=size) for size in range(100, 108)]
    desk.write(judge=None, arms=arms, comparison="EqualTokens")
    desk.tell({"pretrain/train/a103-s0": {"*": {"exit": 78, "message": "no such optimizer"}}})
    code, screen = on_terminal(COMMAND, desk.folder, desk.environment(), lines=12)
    assert code == 1
    tree = screen.text[screen.text.index("test ━") :].splitlines()
    assert "✘ train/a103" in screen.text
    assert re.search(r"\d+ complete, \d+ waiting", screen.text)
    assert len([line for line in tree if line[0] in "└├│ "]) < 10


def test_a_step_that_is_tried_again_on_a_terminal(desk: Desk) -> None:
    """Why stands above the tree, how soon below it."""
    desk.tell({"pretrain/train/plain-s0": {"1": {"exit": 1, "message": "out of luck"}}})
    shown: list[str] = []
    code, screen = on_terminal(
        COMMAND, desk.folder, desk.environment(), lambda screen, _: shown.append(screen.text)
    )
    assert code == 0
    assert screen.text.startswith("AttemptFailed: pretrain/train/plain: out of luck\ntest ━")
    assert screen.text.count("out of luck") == 1
    again = r"report\nin [01]s: pretrain/train/plain-s0 is tried again: out of luck"
    assert any(re.search(again, text) for text in shown)
    assert re.search(r"✔ train/plain +1 failure\n", screen.text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_on_a_terminal(desk: Desk, number: signal.Signals) -> None:
    desk.tell({"pretrain/train/plain-s0": {"1": {"hang": True}}})

    def seen(screen: Screen, process: "subprocess.Popen[bytes]") -> None:
        if "▶ train/plain" in screen.text and "stopping" not in screen.text:
            process.send_signal(number)

    code, screen = on_terminal(COMMAND, desk.folder, desk.environment(), seen)
    assert code == 130
    *_, stopping, last = screen.text.splitlines()
    assert stopping == "stopping: what runs saves its state; Ctrl-C again ends it at once"
    assert last == "interrupted; go on with: ixt run run.yaml --runtime stubs.yaml"
    assert screen.text.count("▶ train/plain") == 1
    assert desk.run().code == 0


def test_under_nohup_a_hang_up_is_nothing(desk: Desk) -> None:
    desk.tell({"pretrain/train/plain-s0": {"1": {"wait_for": str(desk.folder / "go")}}})

    def seen(screen: Screen, process: "subprocess.Popen[bytes]") -> None:
        if "▶ train/plain" in screen.text:
            process.send_signal(signal.SIGHUP)
            (desk.folder / "go").touch()

    code, _ = on_terminal(
        ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *COMMAND], desk.folder, desk.environment(), seen
    )
    assert code == 0


def test_nobody_reads_any_more(desk: Desk) -> None:
    """`ixt run | head -1`: the run ends in good order, without a traceback."""
    with desk.started() as process:
        assert process.stdout
        assert process.stderr
        assert "StepStarted" in process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait() != 0
