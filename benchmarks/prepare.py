"""Preparation against raw `tokenizers.encode_batch`: the same text, tokenizer and cores.

    python benchmarks/prepare.py [--rounds 5] [--length 2048] [--memory GB]

The text is Python's standard library, a file a document, with a BPE of 8,192 trained on it. Ours is the
Prepare step on what Inventory and Annotate made of it (15 % of the documents with a score and a critique in
front), from its first line to the commit: join, tokens, masks, packing, Arrow files, hashes; and the same
with decontamination against 20 tasks of 1,000 questions of 60 words. The peer counts the tokens of the same
documents in batches of 1,000. Each round is a process that has imported all it needs when the time starts;
the three take turns, in both orders. Only tokens of documents count, for all of them.
`--memory GB` (with `--rounds 0`: nothing else) makes a jsonl of that size and says the largest resident
memory that a process of Inventory and Prepare had, and their seconds.
The last line is JSON: tokens a second by round, the medians of their ratios to the peer's, without and with
decontamination, beside them the same by seconds of processor time, which a busy machine disturbs less, and
the packing's padding.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ixt_workloads.contract.configs import AnnotateConfig, InventoryConfig, PrepareConfig
from ixt_workloads.contract.graph import PIN, Node, Probe, Task
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.settings import (
    Conditioning,
    Dataset,
    EvalTask,
    ExistingFeedback,
    Method,
    ModelSource,
    Prepare,
    StageType,
)

VOCABULARY = 8192
BATCH = 1000
ANNOTATED_PERCENT = 15
TASKS, QUESTIONS = 20, 1000
END = "<|endoftext|>"


def main() -> None:
    """Make the text, let both work in turns, and weigh the steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--length", type=int, default=2048, help="tokens in a sequence")
    parser.add_argument("--memory", type=float, default=0, metavar="GB")
    parser.add_argument("--turn", nargs=2, metavar=("WHO", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        who, file = arguments.turn
        print(json.dumps((_peer if who == "tokenizers" else _ours)(Path(file))))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        texts = _texts()
        print(f"{len(texts)} documents, {sum(map(len, texts)) / 1e6:.1f} million characters", flush=True)
        _train_tokenizer(folder / "tokenizer", texts)
        found = _rates(folder, texts, arguments.rounds, arguments.length) if arguments.rounds else {}
        if arguments.memory:
            found["memory"] = _memory(folder / "large", texts, arguments.memory, arguments.length)
    print(json.dumps({"benchmark": "prepare", **found}))


def _texts() -> list[str]:
    """The sources of Python's standard library, without what is installed into it."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.parts:
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            if text.strip():
                found.append(text)
    return list(dict.fromkeys(found))


def _train_tokenizer(folder: Path, texts: Sequence[str]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(folder)


# --- Speed ---


def _rates(folder: Path, texts: Sequence[str], rounds: int, length: int) -> dict[str, Any]:
    dice = random.Random(0)
    words = ["clear", "terse", "correct", "vague", "dated", "complete", "tested", "hard", "plain"]
    with (folder / "corpus.jsonl").open("w") as corpus:
        for text in texts:
            critique = " ".join(dice.choice(words) for _ in range(30)) + "."
            row = {"text": text, "score": round(dice.uniform(0, 5), 2), "critique": critique}
            corpus.write(json.dumps(row) + "\n")
    existing = ExistingFeedback(score_field="score", critique_field="critique")
    datasets = (Dataset(name="stdlib", uri=f"file://{folder}/corpus.jsonl"),)
    inventory = _run(folder, InventoryConfig(datasets=datasets, existing=existing), {})
    annotate = AnnotateConfig(to_percent=ANNOTATED_PERCENT)
    feedback = _run(folder, annotate, {"inventory": inventory})
    inputs = {"inventory": inventory, "feedback/0": feedback}
    tasks = tuple(_asked(folder, f"task-{number}", dice, words) for number in range(TASKS))
    config = _prepare(folder, Method.CONDITIONED, length)
    file = folder / "turn.json"
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "decontaminated": [], "tokenizers": []}
    padding = 0.0
    for turn in range(-1, rounds):
        for who in sorted(found, reverse=turn % 2 == 1):
            # A key of its own, or it would be committed already.
            own = config.model_copy(update={"tasks": tasks if who == "decontaminated" else ()})
            task = _task(folder, own, inputs, key=uuid.uuid4().hex)
            file.write_text(task.model_dump_json())
            command = [sys.executable, __file__, "--turn", who, str(file)]
            done = subprocess.run(command, env=_env(), stdout=subprocess.PIPE, check=True, text=True)
            said = json.loads(done.stdout.splitlines()[-1])
            padding = said.get("paddingPercent", padding)
            if turn >= 0:  # the round before the first warms the page cache
                found[who].append((said["tokens"] / said["clock"], said["tokens"] / said["processor"]))
                print(f"round {turn} {who}: {found[who][-1][0]:,.0f} tokens/s", flush=True)

    def ratio(who: str, by: int) -> float:
        pairs = zip(found[who], found["tokenizers"], strict=True)
        return statistics.median(ours[by] / peer[by] for ours, peer in pairs)

    return {
        **{who: [round(rate) for rate, _ in rates] for who, rates in found.items()},
        "ratio": ratio("ours", 0),
        "processorRatio": ratio("ours", 1),
        "decontaminatedRatio": ratio("decontaminated", 0),
        "decontaminatedProcessorRatio": ratio("decontaminated", 1),
        "paddingPercent": padding,
    }


def _asked(folder: Path, name: str, dice: random.Random, words: Sequence[str]) -> EvalTask:
    """A task whose questions no document has."""
    with (folder / f"{name}.jsonl").open("w") as file:
        for _ in range(QUESTIONS):
            prompt = " ".join(dice.choice(words) for _ in range(60))
            file.write(json.dumps({"prompt": prompt, "answer": " so"}) + "\n")
    return EvalTask(name=name, uri=f"file://{folder}/{name}.jsonl", max_items=QUESTIONS)


def _ours(file: Path) -> dict[str, float]:
    sys.modules["torch"] = None  # type: ignore[assignment] # as the step itself does: it needs none
    import ixt_workloads.tokenizer  # noqa: F401 - what the step imports later
    from ixt_workloads.frame import Step
    from ixt_workloads.progress import Reporter
    from ixt_workloads.steps.prepare import __main__ as prepare
    from ixt_workloads.store import Artifact, open_store

    task = Task.model_validate_json(file.read_bytes())
    step = Step(task=task, index=0, store=open_store(task.storage), reporter=Reporter())
    clock, processor = time.perf_counter(), time.process_time()
    prepare.run(step)
    spent = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
    summary = Artifact.open(step.store, task.key).summary
    return {**spent, "tokens": summary["documentTokens"], "paddingPercent": summary["paddingPercent"]}


def _peer(file: Path) -> dict[str, float]:
    from tokenizers import Tokenizer

    folder = file.parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    texts = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").open()]
    clock, processor, tokens = time.perf_counter(), time.process_time(), 0
    for start in range(0, len(texts), BATCH):
        encoded = tokenizer.encode_batch(texts[start : start + BATCH], add_special_tokens=False)
        tokens += sum(map(len, encoded))
    spent = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
    return {**spent, "tokens": tokens}


# --- Memory ---


def _memory(folder: Path, texts: Sequence[str], size: float, length: int) -> dict[str, Any]:
    folder.mkdir()
    (folder / "tokenizer").symlink_to(folder.parent / "tokenizer")
    with (folder / "corpus.jsonl").open("w") as file:
        for line in _lines(texts, round(size * 1e9)):
            file.write(line)
    datasets = (Dataset(name="stdlib", uri=f"file://{folder}/corpus.jsonl"),)
    weights: dict[str, Any] = {}
    inventory = _run(folder, InventoryConfig(datasets=datasets), {}, weights)
    _run(folder, _prepare(folder, Method.NEXT_TOKEN, length), {"inventory": inventory}, weights)
    return {"gigabytes": size, **weights}


def _lines(texts: Sequence[str], size: int) -> Iterator[str]:
    """The texts over and over, each time as documents of another content."""
    written = 0
    for number in range(size):
        if written >= size:
            return
        line = json.dumps({"text": f"# {number}\n{texts[number % len(texts)]}"}) + "\n"
        written += len(line)
        yield line


# --- Steps as the processes that they are ---


def _prepare(folder: Path, method: Method, length: int) -> PrepareConfig:
    return PrepareConfig(
        stage_type=StageType.PRETRAIN,
        method=method,
        conditioning=Conditioning(),
        prepare=Prepare(sequence_length=length),
        tokenizer=ModelSource(tokenizer=f"file://{folder}/tokenizer"),
    )


def _task(folder: Path, config: Any, inputs: dict[str, str], key: str) -> Task:
    kind = config.kind.lower()
    names = {
        "kind": config.kind,
        "stage": "bench",
        "run": "bench",
        "run_uid": "bench",
        "storage": f"file://{folder}/storage",
    }
    own = Node(
        kind=config.kind,
        stage="bench",
        version=KINDS[config.kind].version,
        config=config,
        inputs={"datasets": PIN + "datasets"},
    )
    probe = Probe(nodes=(own,)) if kind == "inventory" else None
    return Task(config=config, key=key, inputs=inputs, attempt=0, indexes=1, probe=probe, **names)


def _run(folder: Path, config: Any, inputs: dict[str, str], weights: dict[str, Any] | None = None) -> str:
    """Run a step; its key. `weights` takes its seconds and its peak memory."""
    kind = config.kind.lower()
    task = _task(folder, config, inputs, key="" if kind == "inventory" else uuid.uuid4().hex)
    (folder / "task.json").write_text(task.model_dump_json())
    env = {"IXT_TASK": str(folder / "task.json"), "IXT_RESULT": str(folder / "result.json")}
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"ixt_workloads.steps.{kind}"], env={**_env(), **env})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{kind}: exit code {process.returncode}")
    if weights is not None:
        weights[kind] = {
            "seconds": round(time.perf_counter() - begun),
            "peakGigabytes": round(usage.ru_maxrss * 1024 / 1e9, 3),
        }
        print(f"{kind}: {weights[kind]}", flush=True)
    return str(json.loads((folder / "result.json").read_text())["key"])


def _env() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


if __name__ == "__main__":
    main()
