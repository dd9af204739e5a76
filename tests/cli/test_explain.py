"""What a run did and would do: status, why, diff, report and gc."""

import json
import re
import shutil
import signal

from make import cli, runs
from make.cli import Desk
from make.processes import marked, until

EDITED = {"conditioning": {"format": "Token"}}


def did(out: str) -> dict[str, str]:
    """What the lines of `ixt diff` say of each node."""
    lines = [line.split() for line in out.splitlines() if line and line[0] != " "]
    return {words[1]: words[0] for words in lines if words[1] != "stands"}


def started(out: str) -> list[str]:
    """Steps that `ixt run` started."""
    return re.findall(r"StepStarted: (\S+)", out)


def test_another_format_prepares_and_trains_again_and_annotates_nothing(judged: Desk) -> None:
    assert judged.run().code == 0
    judged.write(**EDITED)
    expected = {
        "pretrain/inventory": "cached",
        "pretrain/annotate/0-15": "cached",
        "pretrain/annotate/holdout": "cached",
        "pretrain/prepare/conditioned": "run",
        "pretrain/train/conditioned-s0": "run",
        "pretrain/evaluate/conditioned-s0": "run",
        "report": "run",
    }
    because = "because conditioning.format of pretrain/prepare/conditioned changed: (default) -> Token"
    diff = judged.ixt("diff", "run.yaml")
    assert did(diff.out) == expected
    assert diff.out.count(because) == 4
    assert "nothing caused a re-run" in judged.ixt("why", "run.yaml", "train/conditioned").out

    done = judged.run()
    assert done.code == 0
    assert started(done.out) == [
        "pretrain/inventory",
        "pretrain/prepare/conditioned",
        "pretrain/train/conditioned",
        "pretrain/evaluate/conditioned",
        "report",
    ]
    for step in (
        "prepare/conditioned",
        "pretrain/train/conditioned-s0",
        "pretrain/evaluate/conditioned",
        "report",
    ):
        why = judged.ixt("why", "run.yaml", step)
        assert why.code == 0
        first, *causes = why.out.splitlines()
        assert re.match(r"\S+  \w{32} -> \w{32}$", first)
        assert [line.strip() for line in causes] == [because]
    assert "nothing caused a re-run" in judged.ixt("why", "run.yaml", "annotate/0-15").out

    # And back: what was made before is taken again.
    judged.write()
    assert set(did(judged.ixt("diff", "run.yaml").out).values()) == {"cached"}
    assert started(judged.run().out) == ["pretrain/inventory"]
    assert "Token -> (default)" in judged.ixt("why", "run.yaml", "prepare/conditioned").out


def test_another_learning_rate_trains_again(desk: Desk) -> None:
    assert desk.run().code == 0
    desk.write(**cli.PLAIN, stages=[cli.stage(train={"optimizer": {"learningRate": "1e-3"}})])
    assert [name for name, word in did(desk.ixt("diff", "run.yaml").out).items() if word == "run"] == [
        "pretrain/train/plain-s0",
        "pretrain/evaluate/plain-s0",
        "report",
    ]
    assert started(desk.run().out)[1:] == ["pretrain/train/plain", "pretrain/evaluate/plain", "report"]
    because = "because train.optimizer.learningRate of pretrain/train/plain-s0 changed: (default) -> 0.001"
    assert because in desk.ixt("why", "run.yaml", "report").out
    # Written another way it is the same number.
    desk.write(**cli.PLAIN, stages=[cli.stage(train={"optimizer": {"learningRate": "0.0010"}})])
    assert set(did(desk.ixt("diff", "run.yaml").out).values()) == {"cached"}


def test_a_dataset_that_moves(desk: Desk) -> None:
    """Inventory is asked anew; the same bytes cause nothing else, others everything."""
    (desk.folder / "documents.jsonl").write_text('{"text": "a"}\n')
    assert desk.run().code == 0
    before = desk.committed()
    shutil.copy(desk.folder / "documents.jsonl", desk.folder / "moved.jsonl")
    datasets = [{"name": "documents", "uri": "./moved.jsonl"}]
    desk.write(**cli.PLAIN, stages=[cli.stage(datasets=datasets)])
    diff = desk.ixt("diff", "run.yaml")
    assert did(diff.out) == {
        node: "run" if node == "pretrain/inventory" else "run?" for node in cli.PLAIN_NODES
    }
    assert "because datasets[0].uri of pretrain/inventory changed: file://" in diff.out
    assert "depends on Inventory's answer" in diff.out
    assert started(desk.run().out) == ["pretrain/inventory"]
    assert desk.committed() == before

    (desk.folder / "moved.jsonl").write_text('{"text": "b"}\n')
    assert started(desk.run().out)[1:] == [
        "pretrain/prepare/plain",
        "pretrain/train/plain",
        "pretrain/evaluate/plain",
        "report",
    ]
    assert (
        "because content of datasets of pretrain/inventory changed"
        in desk.ixt("why", "run.yaml", "report").out
    )
    assert {path: desk.committed()[path] for path in before} == before


def test_a_place_that_only_the_training_reads(desk: Desk) -> None:
    """A new task: what does not depend on it keeps its key. What looks for its questions does."""
    prepare = {"sequenceLength": 256, "decontamination": "Disabled"}
    desk.write(**cli.PLAIN, stages=[cli.stage(prepare=prepare)])
    assert desk.run().code == 0
    tasks = [{"name": "sums", "uri": "./sums.jsonl"}]
    for decontamination, prepared in (("Disabled", "cached"), ("Enabled", "run?")):
        given = {**prepare, "decontamination": decontamination}
        desk.write(**cli.PLAIN, stages=[cli.stage(evaluate={"tasks": tasks}, prepare=given)])
        diff = desk.ixt("diff", "run.yaml")
        assert diff.code == 0
        assert list(did(diff.out).values()) == ["cached", prepared, "run?", "run?", "run?"]


def test_another_sample_and_another_arm(judged: Desk) -> None:
    assert judged.run().code == 0
    judged.write(
        arms=[runs.arm("conditioned"), runs.arm("filtered", "Filtered", samplePercent=40)],
        stages=[cli.stage()],
    )
    diff = judged.ixt("diff", "run.yaml").out
    assert {name for name, word in did(diff).items() if word == "cached"} == {
        "pretrain/inventory",
        "pretrain/annotate/0-15",
        "pretrain/annotate/holdout",
        "pretrain/prepare/conditioned",
        "pretrain/train/conditioned-s0",
        "pretrain/evaluate/conditioned-s0",
    }
    judged.write(stages=[cli.stage(annotate={"samplePercent": 20})])
    diff = judged.ixt("diff", "run.yaml").out
    assert "because toPercent" not in diff  # another band is another node
    assert "because inputs.feedback/0-20 of pretrain/prepare/conditioned changed: (none) ->" in diff
    assert did(diff)["pretrain/annotate/0-15"] == "gone"


def test_what_never_got_done_is_not_cached(desk: Desk) -> None:
    desk.tell({"pretrain/train/plain-s0": {"*": {"exit": 65}}})
    assert desk.run().code == 1
    assert list(did(desk.ixt("diff", "run.yaml").out).values()) == ["cached", "cached", "run", "run", "run"]
    shutil.rmtree(desk.storage / "artifacts" / desk.node_keys()["pretrain/prepare/plain"])
    assert list(did(desk.run("--dry-run").out).values()) == ["cached", "run", "run", "run", "run"]


def test_why_of_an_unknown_step(desk: Desk) -> None:
    done = desk.ixt("why", "run.yaml", "train/plain")
    assert done.code == 2
    assert "was not made in this workdir: it has not begun" in done.err
    chat = cli.stage("sft")
    desk.write(**cli.PLAIN, stages=[cli.stage(), chat])
    assert desk.run().code == 0
    done = desk.ixt("why", "run.yaml", "trian/plain")
    assert done.code == 2
    assert done.err.startswith("no step trian/plain in this run; there are:\n  pretrain/inventory\n")
    done = desk.ixt("why", "run.yaml", "train/plain")
    assert done.code == 2
    assert done.err == (
        "train/plain is in several stages: name one of:\n  pretrain/train/plain-s0\n  sft/train/plain-s0\n"
    )


# --- Status and report.


def test_status_while_it_runs_when_stopped_and_when_done(desk: Desk) -> None:
    desk.tell({"pretrain/train/plain-s0": {"1": {"hang": True}}})
    with desk.started() as process:
        until(lambda: "▶ train/plain     1/2 parts" in desk.ixt("status", "run.yaml").out)
        assert re.match(r"test ━[━╸ ]+ 49% Running \d+s\n└── pretrain\n", desk.ixt("status", "run.yaml").out)
        assert desk.status()["phase"] == "Running"
        report = desk.ixt("report", "run.yaml")
        assert (report.code, report.err) == (
            1,
            "no report yet: the run is Running; go on with `ixt run run.yaml`\n",
        )
        process.send_signal(signal.SIGTERM)
        assert "interrupted; go on with: ixt run run.yaml --runtime stubs.yaml" in process.communicate()[1]
        assert process.returncode == 130
    stopped = desk.ixt("status", "run.yaml").out
    assert re.match(r"test ━[━╸ ]+ 49% Stopped\n", stopped)
    assert "· train/plain" in stopped
    assert desk.run().code == 0
    assert re.match(r"test ━+ 100% Complete \d+s\n", desk.ixt("status", "run.yaml").out)
    assert [step["state"] for step in desk.status()["stages"][0]["steps"]] == ["Complete"] * 5


def test_status_of_a_failure_says_why(desk: Desk) -> None:
    desk.tell({"pretrain/train/plain-s0": {"*": {"exit": 65, "message": "line 3 is no JSON"}}})
    assert desk.run().code == 1
    said = desk.ixt("status", "run.yaml").out
    assert "✘ train/plain" in said
    assert "pretrain/train/plain-s0: line 3 is no JSON\ntake it out of the script\n" in said
    assert said.endswith("logs: .ixt/test/logs\n")


def test_a_report_is_fetched_again_when_it_was_lost(desk: Desk) -> None:
    assert desk.run().code == 0
    page = desk.folder / desk.ixt("report", "run.yaml").out.strip()
    assert page.read_text().endswith("<p>a stub wrote it</p>")
    shutil.rmtree(page.parent.parent)
    assert desk.ixt("report", "run.yaml").code == 0
    assert page.exists()
    shutil.rmtree(page.parent.parent)
    (stored,) = desk.storage.glob("artifacts/*/report.html")
    stored.chmod(0o644)
    stored.write_text("something else")
    done = desk.ixt("report", "run.yaml")
    assert (done.code, done.out) == (1, "")
    assert "file report.html of artifact" in done.err
    assert "was changed" in done.err
    assert not page.exists()


# --- Garbage.


def test_gc_deletes_when_told_what_no_run_needs(desk: Desk) -> None:
    assert desk.run().code == 0
    first = desk.node_keys()
    desk.write(**cli.PLAIN, stages=[cli.stage(train={"optimizer": {"learningRate": "1e-3"}})])
    assert desk.run().code == 0
    second = desk.node_keys()
    lost = set(first.values()) - set(second.values())
    assert len(lost) == 3
    assert "would delete 0 entries" in desk.ixt("gc", "run.yaml").out  # all of it is younger than two weeks
    before = desk.committed()
    said = desk.ixt("gc", "run.yaml", "--older-than-days", "0").out
    assert set(re.findall(r"^Artifact .*artifacts/(\w+)$", said, re.MULTILINE)) == lost
    assert said.endswith("nothing was deleted: say --delete to do it\n")
    assert desk.committed() == before
    said = desk.ixt("gc", "run.yaml", "--older-than-days", "0", "--delete").out
    assert set(re.findall(r"^Artifact .*artifacts/(\w+)$", said, re.MULTILINE)) == lost
    assert desk.manifests().keys() == set(second.values())
    assert started(desk.run().out) == ["pretrain/inventory"]


def test_gc_keeps_what_a_stage_needs_that_a_later_run_did_not_get_to(desk: Desk) -> None:
    """The first stage's Inventory has named what the edited run needs, the second's has not."""
    desk.write(**cli.PLAIN, stages=[cli.stage(), cli.stage("midtrain", type="Midtrain")])
    assert desk.run().code == 0
    done = desk.node_keys()
    desk.tell({"midtrain/inventory": {"*": {"exit": 65}}})
    edited = cli.stage(train={"optimizer": {"learningRate": "1e-3"}})
    desk.write(**cli.PLAIN, stages=[edited, cli.stage("midtrain", type="Midtrain")])
    assert desk.run().code == 1
    assert desk.node_keys()["pretrain/train/plain-s0"] != done["pretrain/train/plain-s0"]
    desk.ixt("gc", "run.yaml", "--older-than-days", "0", "--delete")
    assert desk.manifests().keys() >= set(done.values())


def test_gc_keeps_what_another_run_needs(desk: Desk) -> None:
    assert desk.run().code == 0
    desk.write(file="other.yaml", name="other", judge=None, arms=[runs.arm("b", "NextToken", seeds=[7])])
    assert desk.ixt("run", "other.yaml", "--runtime", "stubs.yaml").code == 0
    before = desk.committed()
    assert "deleted" in desk.ixt("gc", "other.yaml", "--older-than-days", "0", "--delete").out
    assert desk.committed() == before
    # A run is given up by deleting its folder.
    uid = json.loads((desk.workdir / "run.json").read_text())["metadata"]["uid"]
    shutil.rmtree(desk.storage / "runs" / uid)
    desk.ixt("gc", "other.yaml", "--older-than-days", "0", "--delete")
    assert len(desk.manifests()) == 5
    assert marked(desk.workdir) == []
