"""Killed once while a real judge writes feedback: the next `ixt run` goes on from what is committed."""

import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from make import cli, runs
from make.cli import IXT, Desk
from make.corpora import jsonl, rows, texts
from make.judge import judge_folder
from make.models import config_folder, tokenizer_folder
from make.processes import kill, marked, until

ANNOTATE = "pretrain/annotate/0-4"
LONG_SECONDS = 400
"""For a judge to start and answer, on a machine that has other work."""

RUBRIC = {"instructions": "Judge it.", "idealCritique": "Clear.", "worstCritique": "Vague."}
ENV = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


@pytest.fixture
def engines(tmp_path: Path) -> Desk:
    """A run by vLLM and torch.distributed: documents in several shards are judged, few at a time, then two
    processes train."""
    jsonl(tmp_path / "documents.jsonl", rows(texts(1800, words=(3, 8))))
    judge_folder(tmp_path / "judge")
    tokenizer_folder(config_folder(tmp_path / "model"))
    stage = cli.stage(
        annotate={"samplePercent": 4},
        train={"maxTokens": 16_384, "batchTokens": 2048, "precision": "FP32", "numProcPerNode": 2},
        evaluate={"holdoutDocuments": 8},
    )
    judge = {
        "model": "./judge",
        "reasoningParser": "deepseek_r1",
        "rubric": {"inline": RUBRIC},
        "sampling": {"maxTokens": 200},
        "engine": {"args": ["--max-num-seqs=4"]},
    }
    return cli.desk(tmp_path, arms=[runs.arm("ixt")], judge=judge, stages=[stage])


@pytest.mark.engine
@pytest.mark.xdist_group("vllm")
@pytest.mark.timeout(3 * LONG_SECONDS)
def test_a_run_of_real_engines_killed_once_is_completed_by_the_next(engines: Desk) -> None:
    with subprocess.Popen(
        [IXT, "run", "run.yaml"],
        cwd=engines.folder,
        env=engines.environment(**ENV),
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            until(lambda: process.poll() is not None or written(engines) != {}, LONG_SECONDS)
        finally:
            kill(process.pid)
    assert process.returncode == -9
    until(lambda: marked(engines.workdir) == [])
    keys, before, feedback = engines.node_keys(), engines.committed(), written(engines)
    assert keys[ANNOTATE] not in engines.manifests()
    assert before

    done = subprocess.run(
        [IXT, "run", "run.yaml"],
        cwd=engines.folder,
        env=engines.environment(**ENV),
        capture_output=True,
        text=True,
        timeout=2 * LONG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert json.loads((engines.workdir / "status.json").read_text())["phase"] == "Complete"
    assert engines.node_keys() == keys
    assert engines.manifests().keys() == set(keys.values())
    after = engines.committed()
    assert {path: after[path] for path in before} == before
    assert {path: found for path, found in written(engines).items() if path in feedback} == feedback
    documents = read(engines, keys["pretrain/inventory"], "docs-*.parquet", "sample")
    wanted = sorted(name for name, place in documents if place < 40_000)
    answers = read(engines, keys[ANNOTATE], "feedback-*.parquet", "status")
    assert sorted(answers) == [(name, "ok") for name in wanted]
    assert engines.told_twice() == []
    assert marked(engines.workdir) == []


def written(desk: Desk) -> dict[Path, tuple[int, bytes]]:
    """The files of feedback on training documents that there are, by path: their inodes and bytes."""
    shards = desk.storage.glob("artifacts/*/feedback-0*.parquet")
    return {path: (path.stat().st_ino, path.read_bytes()) for path in shards}


def read(desk: Desk, key: str, files: str, column: str) -> list[tuple[str, object]]:
    """Ids and one column of an artifact's rows."""
    found = (desk.storage / "artifacts" / key).glob(files)
    tables = [pq.read_table(path, columns=["id", column]).to_pylist() for path in found]
    return [(row["id"], row[column]) for table in tables for row in table]
