"""What people read of runs has no commands for their terminal in it, whoever wrote it."""

import base64
import gzip
import json
import logging
from pathlib import Path

import pytest
import typer
from make import runs

from ixt_operator.adapters.kubernetes.log import readable, shown
from ixt_operator.api.status import Condition, RunStatus
from ixt_operator.cli import cluster, kubectl
from ixt_operator.cli.artifacts import guarded
from ixt_operator.cli.explain import _print
from ixt_operator.cli.stop import stop
from ixt_operator.manifests.loading import ManifestError, loads
from ixt_operator.planner.history import Change
from ixt_operator.planner.observed import ProcessPhase, ProcessState
from ixt_workloads import logs
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.foreign import gunzipped
from ixt_workloads.contract.results import Progress, Result
from ixt_workloads.contract.versions import read_known, read_task

ATTACK = "\x1b]0;title\x07\x1b[2Jok\x9b31m\u202e\r"
"""Sets a window's title, clears the screen, changes colours and the direction of the text."""


def test_what_pods_tell_is_clean() -> None:
    assert read_known(Progress, {"message": ATTACK, "unit": ATTACK}) == Progress(message="ok", unit="ok")
    told = read_known(Result, {"outcome": "Failed", "message": ATTACK, "hint": ATTACK})
    assert (told.message, told.hint) == ("ok", "ok")
    process = ProcessState(index=0, phase=ProcessPhase.PENDING, reason=ATTACK, last_log=ATTACK)
    assert (process.reason, process.last_log) == ("ok", "ok")


def test_a_status_that_somebody_edited_is_clean() -> None:
    condition = {"type": "Failed", "status": "True", "reason": "X", "message": ATTACK}
    condition |= {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    found = read_known(RunStatus, {"conditions": [condition], "summary": {"message": ATTACK}})
    assert [each.message for each in found.conditions] == ["ok"]
    assert found.summary.message == "ok"
    assert Condition.model_validate(condition).message == "ok"


def test_lines_of_logs_are_clean() -> None:
    assert readable(f"{ATTACK}\n{ATTACK}") == "ok\nok"
    assert shown(ATTACK) == "ok"
    line = '{"time": "2026-01-01T00:00:00Z", "level": "INFO", "message": "\\u001b[2Jok"}'
    assert shown(f"[pod/x/main] {line}").endswith("INFO ok")


def test_a_steps_own_log_is_clean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IXT_LOG", raising=False)
    before = logging.root.handlers[:]
    try:
        logs.start()
        logging.getLogger("ixt.test").warning("the judge said %s", ATTACK)
        assert capsys.readouterr().err.endswith("WARNING ixt.test the judge said ok\n")
    finally:
        logging.root.handlers[:] = before


def test_what_a_verb_says_of_a_run_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    """The fields of a run that somebody else edited, and the last words of a pod."""
    _print([Change("pretrain/annotate", "judge.systemPrompt", ATTACK, ATTACK * 100)])
    with pytest.raises(typer.Exit):
        stop(f"the pod said: {ATTACK}")
    said = capsys.readouterr()
    assert "judge.systemPrompt of pretrain/annotate changed: ok -> okok" in said.out
    assert said.err == "the pod said: ok\n"
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & {*said.out, *said.err}


@pytest.mark.parametrize(("accepted", "observed"), [("False", 2), ("True", 1)])
def test_no_pod_is_made_with_ones_own_rights_of_a_run_that_is_not_accepted(
    accepted: str, observed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After its report a tenant gives a run a patch that no runtime lends, and waits for an administrator who
    fetches the report."""
    volume = {"name": "node", "hostPath": {"path": "/"}}
    run = runs.manifest(pods={"worker": {"spec": {"hostNetwork": True, "volumes": [volume]}}})
    run["metadata"]["generation"] = 2
    condition = {"type": "Accepted", "status": accepted, "reason": "X"}
    condition |= {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": observed}
    step = {"name": "report", "kind": "Report", "state": "Complete", "key": "a" * 16}
    run["status"] = {
        "observedGeneration": observed,
        "conditions": [condition],
        "stages": [{"name": "pretrain", "steps": [step]}],
    }
    asked: list[tuple[str, ...]] = []

    def answer(*arguments: str, **_: object) -> str:
        asked.append(arguments)
        return json.dumps(run)

    monkeypatch.setattr(cluster, "kubectl", answer)
    with pytest.raises(typer.Exit):
        kubectl.report(run["metadata"]["name"])
    assert "the operator does not accept the run as it stands" in capsys.readouterr().err
    assert [arguments[0] for arguments in asked] == ["get"]


def test_problems_of_a_manifest_are_clean() -> None:
    with pytest.raises(ManifestError) as refused:
        loads('apiVersion: "\\e[2Jv1"\nkind: IXTRun\n"\\e[2Jspec": 1\n', "run.yaml", Path("/"))
    assert "\x1b" not in str(refused.value)


def test_a_page_cannot_weaken_the_policy_before_it() -> None:
    page = (
        b'<html><meta http-equiv="Content-Security-Policy" content="default-src *"><script>alert(1)</script>'
    )
    text = guarded(page).decode()
    assert text.index("default-src 'none'") < text.index("default-src *")
    assert "script-src" not in text.partition("<html>")[0]


BOMB = gzip.compress(b" " * 2**26)


def test_a_packed_page_or_task_that_becomes_endless_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1,000 bytes when unpacked"):
        gunzipped(BOMB, 1000)
    for torn in (BOMB[:100], b"\x1f\x8b" + b"x" * 20, b""):
        with pytest.raises(ValueError, match=r"no gzip|its end is missing"):
            gunzipped(torn, 2**27)
    assert gunzipped(base64.b64decode(base64.b64encode(gzip.compress(b"page"))), 4) == b"page"
    with pytest.raises(StepError, match="the task cannot be read: more than") as refused:
        read_task(BOMB)
    assert refused.value.code is Exit.USAGE
