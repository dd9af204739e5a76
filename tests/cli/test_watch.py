"""While it trains: `ixt watch`, `ixt logs`, curves, and what plain lines say."""

import io
import json
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from make.cli import IXT, Desk
from make.processes import until
from make.terminal import on_terminal
from rich.console import Console

from ixt_operator.adapters.local.logs import Log
from ixt_operator.adapters.local.loop import Look
from ixt_operator.api.status import RunStatus, Summary
from ixt_operator.cli import view
from ixt_operator.cli.curves import Curves, curve
from ixt_operator.planner.events import Event
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_workloads.contract.metrics import LOSS, RESUMED_STEPS
from ixt_workloads.contract.results import Progress

TRAIN = "pretrain/train/plain-s0"
OF_TRAIN = {"node": TRAIN, "kind": "Train", "stage": "pretrain", "arm": "plain", "seed": 0}
CLOCK = r"\d\d:\d\d:\d\d"
CURVE = r"train/plain-s0  loss 4 [▁-█]+ 3\.\d+"


def test_watched_followed_and_stopped(desk: Desk) -> None:
    """By others, while `ixt run` carries it out in a pipe; Ctrl-C stops it, and all of them say so."""
    desk.tell({TRAIN: {"1": {"seconds": 30, "hang": True}}})
    seen: list[str] = []
    with desk.started() as process:
        until(lambda: any(desk.logs.glob("*-train-*.log")))
        follows = subprocess.Popen(
            [IXT, "logs", "run.yaml", "-f"],
            cwd=desk.folder,
            env=desk.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )

        def watch(screen: object, _: object) -> None:
            text = str(getattr(screen, "text", ""))
            if re.search(CURVE, text) and not seen:
                seen.append(text)
                process.send_signal(signal.SIGINT)

        code, screen = on_terminal([IXT, "watch", "run.yaml"], desk.folder, desk.environment(), watch)
        assert process.wait() == 130
    assert code == 1
    assert re.search(CURVE, seen[0])
    assert screen.text.splitlines()[-1] == "stopped; go on with: ixt run run.yaml"
    assert "Stopped" in screen.text
    followed = follows.communicate()[0].splitlines()
    assert followed
    assert {line.partition("] ")[0] for line in followed} == {"[train/plain-s0"}
    assert re.fullmatch(rf"\[train/plain-s0\] {CLOCK} INFO step \d+", followed[0])

    status = desk.status()
    assert (status["phase"], status["summary"]["message"]) == (
        "Suspended",
        "stopped: the same `ixt run` goes on from here",
    )
    told = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert told["Suspended"] == ("True", "Stopped")
    assert told["Progressing"] == ("False", "Stopped")
    assert {step["state"] for step in status["stages"][0]["steps"]} == {"Complete", "Waiting"}

    raw = desk.ixt("logs", "run.yaml", "train/plain", "-o", "json").out.splitlines()
    points = [json.loads(line)["point"] for line in raw if '"point"' in line]
    assert points[0]["step"] < points[-1]["step"]
    assert {"run", "stage", "arm", "seed"} <= json.loads(raw[0]).keys()
    last = desk.ixt("logs", "run.yaml", "pretrain/train/plain", "--tail", "1").out.splitlines()
    assert len(last) == 1
    unknown = desk.ixt("logs", "run.yaml", "train/other")
    assert unknown.code == 1
    assert "no log of train/other in .ixt/test; there are logs of:\n  pretrain/inventory" in unknown.err


# --- Curves.


def point(step: int, loss: float, **more: float) -> str:
    return json.dumps({"logger": "ixt.curve", "point": {"step": step, "training/loss": loss, **more}})


def log(
    workdir: Path, attempt: int, *lines: str, name: str = "", child: Mapping[str, Any] = OF_TRAIN
) -> None:
    """The log of an attempt at a training, and its child."""
    name = name or f"test-pretrain-train-0123abcd-{attempt}"
    folder = workdir / "children" / name
    folder.mkdir(parents=True)
    (workdir / "logs").mkdir(exist_ok=True)
    record = {"child": {**child, "attempt": attempt, "indexes": 1}, "createdAt": attempt}
    (folder / "child.json").write_text(json.dumps(record))
    (workdir / "logs" / f"{name}-0.log").write_text("".join(f"{line}\n" for line in lines))


def running() -> RunStatus:
    step = {"name": "train/plain", "kind": "Train", "state": "Running"}
    return RunStatus.model_validate({"stages": [{"name": "pretrain", "steps": [step]}]})


def test_a_curve_goes_on_over_attempts_without_what_was_lost(tmp_path: Path) -> None:
    held = {"evaluation/loss/None": 5.0}
    log(tmp_path, 1, point(1, 9.0, **held), "no JSON", point(2, 8.0), point(3, 7.0), '{"point": 3}')
    log(tmp_path, 2, point(3, 6.0), '{"point": {"step": "many"}}', point(4, float("nan")))
    curves = Curves(tmp_path)
    (shown,) = curves.shown(running())
    assert shown.plain == "train/plain-s0  loss 9 █▆▁ 6  held out 5 ▁ 5"
    with (tmp_path / "logs" / "test-pretrain-train-0123abcd-2-0.log").open("a") as file:
        file.write(point(5, 1.0))
        file.flush()
        assert curves.shown(running()) == [shown], "half a line is none yet"
        file.write("\n")
    assert curves.shown(running())[0].plain.startswith("train/plain-s0  loss 9 █▇▅▁ 1")
    assert curves.shown(RunStatus()) == []


def test_of_a_lane_the_curve_of_its_newest_round_is_shown(tmp_path: Path) -> None:
    for number, loss in ((1, 9.0), (2, 5.0)):
        name = f"test-post-train-{number}-1"
        child = {
            "node": f"post/train/c-s0/r{number}",
            "kind": "Train",
            "stage": "post",
            "arm": "c",
            "seed": 0,
        }
        log(tmp_path, 1, point(1, loss), name=name, child={**child, "round": number})
    step = {"name": "train/c", "kind": "Train", "arm": "c", "state": "Running", "round": 2}
    status = RunStatus.model_validate({"stages": [{"name": "post", "steps": [step]}]})
    assert [line.plain.split("  ")[:2] for line in Curves(tmp_path).shown(status)] == [
        ["train/c-s0/r2", "loss 5 ▁ 5"]
    ]


def test_a_long_curve_is_short(tmp_path: Path) -> None:
    drawn = curve([10 - place / 100 for place in range(1000)])
    assert re.fullmatch(r"10 [▁-█]{24} 0\.01", drawn)
    assert curve([3.0, 3.0]) == "3 ▁▁ 3"


def test_logs_of_ten_attempts_are_in_order(tmp_path: Path) -> None:
    for attempt in range(1, 12):
        log(tmp_path, attempt)
    from ixt_operator.adapters.local.logs import logs_in

    (found,) = logs_in(tmp_path)
    assert isinstance(found, Log)
    assert [path.name.rsplit("-", 2)[1] for path in found.of_all_attempts] == [str(n) for n in range(1, 12)]


# --- Plain lines.


def look(*events: Event, **told: float) -> Look:
    """A training that runs, as a look finds it."""
    figures = {RESUMED_STEPS.name: {"": told["resumed"]}} if "resumed" in told else {}
    progress = Progress(
        done=told.get("done", 0),
        total=1000,
        unit="tokens",
        per_second=10.0,
        figures={LOSS.name: {"": 2.5}, **figures},
    )
    process = ProcessState(index=0, phase=ProcessPhase.RUNNING, progress=progress)
    child = ChildState(
        name="c-1",
        kind="Train",
        stage="pretrain",
        arm="plain",
        seed=0,
        key="k",
        attempt=1,
        created_at=0,
        processes=(process,),
    )
    percent = round(told.get("done", 0) / 10)
    summary = Summary(stage="pretrain", step="train/plain-s0", progress_percent=percent)
    status = running().model_copy(update={"summary": summary})
    return Look(status, Observed(children={"c-1": child}), events)


class Clock:
    """Hours pass at once."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def strftime(self, _: str) -> str:
        return f"{self.now:.0f}"


def test_plain_lines_tell_times_what_was_reached_and_less_of_long_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(view, "time", clock)
    console = Console(width=200, force_terminal=False, record=True, file=io.StringIO())
    with view.watching(console, "test", Path("/nowhere")) as show:
        show(look(Event(False, "StepStarted", "pretrain/train/plain")))
        for second in range(1, 86_401):
            clock.now = float(second)
            show(look(resumed=45, done=second / 86.5))
        show(look(Event(False, "StepComplete", "pretrain/train/plain k1 (trained 1,000 tokens, loss 1.560)")))
    first, resumed, *progress, last = console.export_text().splitlines()
    assert first == "0 StepStarted: pretrain/train/plain"
    assert resumed == f"1 {TRAIN} resumed from step 45"
    assert last == ("86400 StepComplete: pretrain/train/plain k1 (trained 1,000 tokens, loss 1.560) in 1d0h")
    assert 100 < len(progress) < 300, "a day in a few screens"
    assert progress[0].startswith(f"15 0% {TRAIN}  ")
    assert "resumed from step 45  loss 2.5" in progress[0]


def test_watching_what_has_ended_or_never_begun(desk: Desk) -> None:
    assert "has no run yet: start it with `ixt run run.yaml`" in desk.ixt("watch", "run.yaml").err
    assert desk.run().code == 0
    assert desk.ixt("watch", "run.yaml").code == 0


# --- Rounds.


def test_a_stage_says_its_round_and_how_long_the_others_will_take() -> None:
    def lines(**states: str) -> list[str]:
        steps = [
            {"name": f"{kind}/c", "kind": kind.title(), "arm": "c", "state": state, "round": 2}
            | {"done": 20, "total": 30, "unit": "documents"}
            for kind, state in states.items()
        ]
        stage = {"name": "post", "rounds": 3, "etaSeconds": 4320, "steps": steps}
        status = RunStatus.model_validate({"phase": "Running", "stages": [stage]})
        console = Console(file=io.StringIO(), width=120)
        console.print(view.tree("test", status))
        return str(console.file.getvalue()).splitlines()[1:]  # type: ignore[attr-defined]

    going = lines(generate="Waiting", train="Running")
    assert going[0].endswith("post  round 2 of 3  about 1h12m left")
    assert going[1].endswith("· generate/c  round 2  20/30 documents")
    assert going[2].endswith("▶ train/c     round 2  20/30 documents")
    done = lines(generate="Complete", train="Complete")
    assert done[0].endswith("post  3 rounds")
    assert done[1].endswith("✔ generate/c  30/30 documents")
