"""What a user reads when something fails: what it was, where its log is, how to go on."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from make import cli, runs
from make.cli import Desk, Done
from make.processes import until

from ixt_workloads.contract.credentials import prefix_of

HERE = Path(__file__).parent
GO_ON = "once that is mended, go on with: ixt run run.yaml --runtime stubs.yaml"
TRAIN = "pretrain/train/plain-s0"


def log_of(done: Done, desk: Desk) -> str:
    """The one log that a failure names; its path can be opened from where the user is."""
    (path,) = re.findall(r"^log: (\S+)$", done.err, re.MULTILINE)
    assert path.startswith(".ixt/test/logs/")
    return (desk.folder / path).read_text()


def failures(done: Done) -> int:
    """Attempts that were said to have failed."""
    return done.out.count("AttemptFailed")


def test_a_users_fault_is_not_retried(desk: Desk) -> None:
    desk.tell({TRAIN: {"*": {"exit": 78, "message": "precision BF16 needs a GPU"}}})
    done = desk.run()
    assert done.code == 1
    assert failures(done) == 1
    said = done.err.splitlines()
    assert said[0] == f"test failed: {TRAIN}: precision BF16 needs a GPU"
    assert said[1] == "take it out of the script"
    assert said[-1] == GO_ON
    assert len(said) == 4
    assert "ERROR ixt Failed: precision BF16 needs a GPU" in log_of(done, desk)
    # Mended, it goes on from there.
    desk.tell({})
    done = desk.run()
    assert (done.code, done.err) == (0, "")
    assert re.findall(r"StepStarted: (\S+)", done.out) == [
        "pretrain/inventory",
        "pretrain/train/plain",
        "pretrain/evaluate/plain",
        "report",
    ]


@pytest.mark.parametrize(
    ("code", "fault", "policy"),
    [(1, "Application", "application"), (85, "OutOfMemory", "outOfMemory"), (81, "Diverged", "diverged")],
)
def test_other_faults_are_retried_within_their_budget(desk: Desk, code: int, fault: str, policy: str) -> None:
    desk.write(**cli.PLAIN, failurePolicy={"application": 0, "outOfMemory": 0, "diverged": 0, policy: 1})
    desk.tell({TRAIN: {"*": {"exit": code, "message": "it went wrong"}}})
    done = desk.run()
    assert done.code == 1
    assert failures(done) == 2
    said = done.err.splitlines()
    assert said[0] == f"test failed: {TRAIN} ({fault}, 2 attempts): it went wrong"
    assert said[1] == "take it out of the script"
    assert said[2] == f"mend that, or raise failurePolicy.{policy} to have it tried more often"
    assert said[3] == "last lines of its log:"
    assert said[-1] == GO_ON
    assert "-train-" in done.err
    assert "it went wrong" in log_of(done, desk)
    assert [
        step["attemptsByFault"] for step in desk.status()["stages"][0]["steps"] if step["attemptsByFault"]
    ] == [{fault: 2}]
    assert "2 failures  it went wrong" in desk.ixt("status", "run.yaml").out
    # The budget is another run's anew, the numbers of attempts go on.
    desk.tell({TRAIN: {"3": {"exit": code}}})
    done = desk.run()
    assert (done.code, failures(done)) == (0, 1)
    assert desk.manifests()[desk.node_keys()[TRAIN]]["createdBy"]["attempt"] == 4


def test_several_steps_fail_at_once(desk: Desk) -> None:
    """The first to be given up ends the others, and is the one to read about."""
    desk.write(
        judge=None,
        arms=[runs.arm("plain", "NextToken", seeds=[0, 1, 2])],
        maxParallelLanes=3,
        failurePolicy={"lanes": "FailFast"},
    )
    desk.tell(
        {TRAIN: {"*": {"exit": 65, "message": "no such thing"}}, TRAIN[:-1] + "1": {"*": {"hang": True}}}
    )
    done = desk.run()
    assert done.code == 1
    assert done.err.startswith(f"test failed: {TRAIN}: no such thing\n")
    assert log_of(done, desk)


def test_a_dataset_that_is_not_there(desk: Desk) -> None:
    """Said by the real Inventory, passed through to the user."""
    (desk.folder / "documents.jsonl").unlink()
    done = desk.ixt("run", "run.yaml")
    assert done.code == 1
    assert failures(done) == 1
    place = f"file://{desk.folder}/documents.jsonl"
    said = done.err.splitlines()
    assert said[0].startswith("test failed: pretrain/inventory: dataset documents: ")
    assert place in said[0]
    assert "does not exist" in said[0]
    assert said[1] == "check the URI in the manifest"
    assert log_of(done, desk)
    assert said[-1] == "once that is mended, go on with: ixt run run.yaml"


def test_an_artifact_that_was_changed(desk: Desk) -> None:
    """It is not used, and made anew once its folder is gone."""
    assert desk.run().code == 0
    key = desk.node_keys()["pretrain/prepare/plain"]
    (part,) = (desk.storage / "artifacts" / key).glob("part-*")
    part.chmod(0o644)
    part.write_text("{}")
    desk.write(**cli.PLAIN, stages=[cli.stage(train={"optimizer": {"learningRate": "1e-3"}})])
    done = desk.run()
    assert done.code == 1
    assert failures(done) == 1
    assert f"file part-0.json of artifact {key} in file://{desk.storage} was changed: sha256 is " in done.err
    assert f"delete artifacts/{key}/ and run again" in done.err
    subprocess.run(["rm", "-r", part.parent], check=True)
    assert desk.run().code == 0
    assert desk.made("pretrain/prepare/plain") == 2


def test_a_secret_that_is_not_set(judged: Desk) -> None:
    endpoint = {"url": "http://127.0.0.1:1/v1", "model": "m", "apiKeySecretRef": {"name": "judge-key"}}
    judged.write(judge={"endpoint": endpoint})
    done = judged.run()
    assert done.code == 2
    assert done.err == (
        "IXT_ENDPOINT_API_KEY is not set in the environment, where pretrain/annotate/0-15 needs it: it "
        "stands for key apiKey of Secret judge-key; `export IXT_ENDPOINT_API_KEY=…`, then run again\n"
    )
    assert judged.run(IXT_ENDPOINT_API_KEY="k").code == 0


def test_credentials_of_a_place_that_are_not_set(desk: Desk) -> None:
    """That is found before anything starts, wherever in the run the place is."""
    private = runs.dataset(uri="hf://owner/gated", credentialsSecretRef={"name": "hub.keys"})
    desk.write(**cli.PLAIN, stages=[cli.stage(), cli.stage("late", datasets=[private])])
    done = desk.run()
    assert done.code == 2
    (variable,) = re.findall(r"for hf:// (\S+), ", done.err)
    assert done.err.startswith("nothing of Secret hub.keys is set in the environment: `export` its entries")
    assert (variable, desk.logs.exists()) == (f"{prefix_of('hub.keys')}HF_TOKEN", False)
    assert desk.run(**{variable: "token"}).code == 0


def test_a_command_that_does_not_exist(desk: Desk) -> None:
    desk.write(**cli.PLAIN, failurePolicy={"application": 0})
    desk.dump("stubs.yaml", cli.stubs(command=["no-such-profiler"]))
    done = desk.run()
    assert done.code == 1
    assert "no-such-profiler cannot be started: [Errno 2] No such file or directory" in done.err
    assert "(Application, 1 attempts): ended with exit code 127" in done.err


def test_a_port_that_was_taken(desk: Desk) -> None:
    """By another program, between the choice of the port and its use: the next attempt gets another."""
    taker = (
        "import os, socket, sys\n"
        "name = os.path.basename(os.path.dirname(os.environ['IXT_TASK']))\n"
        "if '-evaluate-' in name and name.endswith('-1'):\n"
        "    taken = socket.create_server(('127.0.0.1', int(os.environ['IXT_PORT_PROGRESS'])))\n"
        "    taken.set_inheritable(True)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    desk.dump("stubs.yaml", cli.stubs(command=["python", "-c", taker, *cli.STUB[1:]]))
    done = desk.run()
    assert done.code == 0
    assert "AttemptFailed: pretrain/evaluate/plain: OSError: [Errno 98] Address already in use" in done.out


# --- Judges.


def test_a_judge_that_never_becomes_ready(judged: Desk) -> None:
    judged.tell({"pretrain/judge": {"*": {"hang": True}}})
    done = judged.program(
        [sys.executable, HERE / "impatient.py", "run", "run.yaml", "--runtime", "stubs.yaml"]
    )
    assert done.code == 1
    said = done.err.splitlines()
    assert re.fullmatch(
        r"test failed: judge of stage pretrain: was not ready in time; log: \.ixt/test/logs/\S+-judge-\S+",
        said[0],
    )
    assert said[-1] == GO_ON


def test_a_judge_that_ends_again_and_again(judged: Desk) -> None:
    judged.write(failurePolicy={"application": 0})
    judged.tell({"pretrain/judge": {"*": {"exit": 1, "message": "no kernel for this GPU"}}})
    done = judged.run()
    assert done.code == 1
    said = done.err.splitlines()
    assert re.fullmatch(
        "test failed: judge of stage pretrain: ended once, which is more than failurePolicy.application=0 "
        r"allows: no kernel for this GPU; log: \.ixt/test/logs/\S+-judge-\S+\.log",
        said[0],
    )
    assert said[-1] == GO_ON


def test_a_judge_that_cannot_be_served(judged: Desk) -> None:
    """Nobody waits for it to be started anew."""
    judged.tell({"pretrain/judge": {"*": {"exit": 66, "message": "judge: /models/j has no weights"}}})
    done = judged.run()
    assert done.code == 1
    assert done.err.startswith(
        "test failed: judge of stage pretrain: judge: /models/j has no weights: take it out of the script\n"
    )
    assert done.err.splitlines()[-1] == GO_ON


def test_a_run_that_takes_too_long(desk: Desk) -> None:
    desk.write(**cli.PLAIN, activeDeadlineSeconds=1)
    desk.tell({TRAIN: {"*": {"hang": True}}})
    # The deadline counts from the start of the run.
    done = desk.run()
    assert done.code == 1
    assert "not complete after activeDeadlineSeconds=1: raise it, and what is committed is kept" in done.err


# --- Disks.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


def test_a_storage_without_room(desk: Desk, disk: Path) -> None:
    desk.write(**cli.PLAIN, storage={"uri": str(disk / "storage")})
    desk.tell({TRAIN: {"*": {"wait_for": str(desk.folder / "go")}}})
    with desk.started() as process:
        until(lambda: any("-train-" in log.name for log in desk.logs.glob("*")))
        filler = fill(disk)
        (desk.folder / "go").touch()
        out, err = process.communicate()
    assert process.returncode == 1
    assert out.count("AttemptFailed") == 1
    assert re.search(rf"{TRAIN}: no space for file://{disk}/storage/\S+: no space left on device", err)
    assert "free space or raise the quota, then run again" in err
    assert err.splitlines()[-1] == GO_ON
    filler.unlink()
    assert desk.run().code == 0


def test_a_workdir_without_room(desk: Desk, disk: Path) -> None:
    desk.tell({TRAIN: {"*": {"wait_for": str(desk.folder / "go")}}})
    with desk.started("-w", disk / "work") as process:
        until(lambda: any("-train-" in log.name for log in disk.glob("work/logs/*")))
        filler = fill(disk)
        (desk.folder / "go").touch()
        _, err = process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(
        r"disk/work\S*: No space left on device; make room, then go on with: "
        r"ixt run run.yaml -w \S*disk/work --runtime stubs.yaml\n",
        err,
    )
    filler.unlink()
    assert desk.run("-w", disk / "work").code == 0


def test_a_workdir_that_cannot_be_written(desk: Desk, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    done = desk.run("-w", disk / "work")
    assert done.code == 1
    assert done.err == "disk/work: Read-only file system; choose another --workdir\n"


def test_a_workdir_whose_device_is_full(desk: Desk) -> None:
    """As above, for those who may not mount."""
    desk.workdir.mkdir(parents=True)
    (desk.workdir / "status.new").symlink_to("/dev/full")
    done = desk.run()
    assert done.code == 1
    go_on = "make room, then go on with: ixt run run.yaml --runtime stubs.yaml"
    assert done.err == f".ixt/test: No space left on device; {go_on}\n"
    (desk.workdir / "status.new").unlink()
    assert desk.run().code == 0


@pytest.mark.parametrize(("place", "wrong"), [("run.yaml", "File exists"), ("run.yaml/w", "Not a directory")])
def test_a_workdir_that_can_be_no_folder(desk: Desk, place: str, wrong: str) -> None:
    done = desk.run("-w", place)
    assert done.code == 1
    assert done.err == f"{place}: {wrong}; choose another --workdir\n"


def test_a_storage_that_cannot_be_written(desk: Desk, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    desk.write(**cli.PLAIN, storage={"uri": str(disk / "storage")})
    done = desk.run()
    assert done.code == 1
    assert failures(done) == 1
    assert f"test failed: pretrain/inventory: no access to file://{disk}/storage" in done.err
    assert "read-only file system; let this user write the folder, or choose another storage URI" in done.err
