"""Annotation against vLLM's own serving benchmark: the same server, prompts, grammar and most tokens.

    python benchmarks/annotate.py [--documents 600] [--rounds 3] [--concurrency 128] [--judge FOLDER]

Both are timed all in, from the first request to the last answer: ours with waiting for the judge, trial
questions, finding its concurrency, validation and writing; vLLM's client with the concurrency given.
Rounds alternate, each with documents that the server has not seen (no prefix is cached but the rubric's).
The last line is JSON: documents a second of both by round, and the median of their ratios.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from ports import free_port

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS
from ixt_workloads.contract.settings import Gates, Judge, Sampling
from ixt_workloads.flops import ModelShape
from ixt_workloads.frame import Step
from ixt_workloads.progress import Reporter
from ixt_workloads.steps.annotate.client import Judges
from ixt_workloads.steps.annotate.judging import request
from ixt_workloads.steps.annotate.shards import Shards
from ixt_workloads.steps.annotate.work import Work
from ixt_workloads.store import ArtifactWriter, open_store

MAX_TOKENS = 256
SHARD = 128
START_SECONDS = 300


def main() -> None:
    """Serve the judge and let both read, in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=128)
    parser.add_argument("--judge", type=Path, help="model folder; by default the Markov chain of the tests")
    parser.add_argument("--read", nargs=3, metavar=("WHO", "URL", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = (arguments.judge or markov_judge()).resolve()
    if arguments.read:
        who, url, file = arguments.read
        texts = json.loads(Path(file).read_text())
        seconds = (
            ours(folder, url, texts) if who == "ours" else _peer(folder, url, texts, arguments.concurrency)
        )
        print(json.dumps({"documentsPerSecond": len(texts) / seconds}))
        return
    found: dict[str, list[float]] = {"ours": [], "vllm": []}
    with tempfile.TemporaryDirectory() as place, served(_judge(folder), Path(place)) as url:
        for turn in range(-1, arguments.rounds):
            # Whoever starts changes; the round before the first warms both the server and the page cache.
            for who in sorted(found, reverse=turn % 2 == 1):
                file = Path(place, "texts.json")
                file.write_text(
                    json.dumps(texts_of(arguments.documents if turn >= 0 else 64, f"{turn} {who}"))
                )
                options = ["--judge", str(folder), "--concurrency", str(arguments.concurrency)]
                done = subprocess.run(
                    [sys.executable, __file__, *options, "--read", who, url, str(file)],
                    stdout=subprocess.PIPE,
                    check=True,
                    text=True,
                )
                rate = json.loads(done.stdout.splitlines()[-1])["documentsPerSecond"]
                print(f"round {turn} {who}: {rate:.2f} documents/s", flush=True)
                if turn >= 0:
                    found[who].append(rate)
    ratios = [ours / peer for ours, peer in zip(found["ours"], found["vllm"], strict=True)]
    print(
        json.dumps({"benchmark": "annotate", **found, "ratios": ratios, "ratio": statistics.median(ratios)})
    )


def markov_judge() -> Path:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from make.judge import judge_folder

    return judge_folder(Path(tempfile.gettempdir(), "ixt-markov-judge"))


def _judge(folder: Path) -> Judge:
    sampling = Sampling(temperature="1", max_tokens=MAX_TOKENS, retries=0)
    return Judge(
        source=f"file://{folder}",
        rubric=BUILTIN_RUBRICS["quality"],
        sampling=sampling,
        reasoning_parser="deepseek_r1",
    )


def texts_of(number: int, seed: str) -> list[str]:
    """Documents of 50 to 500 characters, of words that no other seed has."""
    dice = random.Random(seed)
    return [
        " ".join(f"{dice.randrange(16**4):04x}" for _ in range(dice.randrange(10, 100)))
        for _ in range(number)
    ]


def _task(judge: Judge, storage: str) -> Task:
    config = AnnotateConfig(judge=judge, gates=Gates(max_invalid_percent=100))
    names = {"kind": "Annotate", "stage": "bench", "key": "1" * 32, "run": "bench", "run_uid": "bench"}
    inputs = {"inventory": "0" * 32}
    return Task(config=config, storage=storage, inputs=inputs, attempt=0, indexes=1, **names)


@contextlib.contextmanager
def served(judge: Judge, place: Path) -> Iterator[str]:
    """The address of vLLM serving a judge as a run's server does; its log lies in `place`."""
    port = free_port()
    (place / "task.json").write_text(_task(judge, f"file://{place}").model_dump_json())
    env = {"IXT_TASK": str(place / "task.json"), "IXT_PORT_HTTP": str(port), "IXT_HOST": "127.0.0.1"}
    with (place / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "ixt_workloads.steps.annotate.server"],
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health"):
                    break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((place / "server.log").read_text()[-2000:]) from None
                time.sleep(1)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def ours(folder: Path, url: str, texts: list[str]) -> float:
    with tempfile.TemporaryDirectory() as place:
        storage = open_store(f"file://{place}")
        writer = ArtifactWriter(storage, "0" * 32, "Inventory", {}, run="bench", attempt=0)
        names = []
        for start in range(0, len(texts), SHARD):
            part = texts[start : start + SHARD]
            ids, samples = [f"{start + row:032x}" for row in range(len(part))], [0] * len(part)
            sink = pa.BufferOutputStream()
            pq.write_table(pa.table({"id": ids, "text": part, "sample": pa.array(samples, pa.int32())}), sink)
            names.append(f"docs-{len(names):05d}.parquet")
            writer.add(names[-1], sink.getvalue().to_pybytes())
        writer.commit({"documents": len(texts)}, names)
        task = _task(_judge(folder), f"file://{place}")
        step = Step(task=task, index=0, store=storage, reporter=Reporter())
        shards = Shards(step)
        work = Work(step, shards, step.config, ModelShape.from_folder(folder), folder)
        start_time = time.perf_counter()
        asyncio.run(work.ask_all(Judges([url])))
        seconds = time.perf_counter() - start_time
        tally = shards.tally()
        print(f"ours: {tally.valid} of {tally.documents} valid, {tally.tokens}", file=sys.stderr)
        return seconds


def _peer(folder: Path, url: str, texts: list[str], concurrency: int) -> float:
    from vllm.benchmarks import serve
    from vllm.benchmarks.datasets import SampleRequest
    from vllm.tokenizers import get_tokenizer

    bodies = [request(_judge(folder), text) for text in texts]
    extra = {name: value for name, value in bodies[0].items() if name != "messages"}
    result = asyncio.run(
        serve.benchmark(
            task_type=serve.TaskType.GENERATION,
            endpoint_type="openai-chat",
            api_url=f"{url}/v1/chat/completions",
            base_url=url,
            model_id="judge",
            model_name="judge",
            tokenizer=get_tokenizer(str(folder)),
            input_requests=[
                SampleRequest(
                    prompt="", prompt_len=1, expected_output_len=MAX_TOKENS, chat_messages=body["messages"]
                )
                for body in bodies
            ],
            logprobs=None,
            request_rate=float("inf"),
            burstiness=1.0,
            disable_tqdm=True,
            num_warmups=0,
            profile=False,
            selected_percentile_metrics=[],
            selected_percentiles=[],
            ignore_eos=False,
            goodput_config_dict={},
            max_concurrency=concurrency,
            lora_modules=None,
            extra_headers=None,
            extra_body=extra,
        )
    )
    if result["completed"] != len(texts):
        raise SystemExit(f"vLLM's client completed {result['completed']} of {len(texts)} requests")
    return float(result["duration"])


if __name__ == "__main__":
    main()
