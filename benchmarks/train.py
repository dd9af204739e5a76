"""Training against transformers.Trainer: the same model, batch, sequence length, data and cores.

    python benchmarks/train.py [--size 1M,20M,20M-150k] [--precision FP32,BF16] [--rounds 15] [--steps N]
    python benchmarks/train.py --size 160M --precision BF16 --compile never    (or always; on a GPU)

Ours is the loop of the Train step, two gloo ranks of one thread as the quickstart has it, on packed sequences
that Prepare's own writer wrote, with document masks. The peer reads the same sequences, plainly causal, as
tensors in memory, and is the fastest of what a user would try on two cores: two ranks of one thread under
DistributedDataParallel or one process of two threads ("alone"), compiled or not. Ours is compiled if that is
faster.
Where there is a GPU, ours and the peer are a process each and share it: nothing else may use it, and both are
compiled or neither, for four would not fit.
All of them are started, warm up (compilation falls into that) and take a few turns each, after which the
slower ones leave. Then ours and the peer alternate: one rests while the other does `--steps` optimizer steps,
so that what else the machine does hits both alike. Neither start-up nor checkpoints nor export are timed.
The last line is JSON: by case, tokens a second of both by round, and the median of their ratios; beside it
the same by seconds of processor time, which a busy machine disturbs less but which leave out waiting, and the
ratio of their peaks of resident memory (a GPU's is not in it).
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ports import free_port

from ixt_workloads.progress import Reporter

GPU = torch.cuda.is_available()
RANKS = 1 if GPU else 2
SEQUENCES = 512
WARMUP = 3
"""Steps before the first turn."""
LOOKS = 3
"""Turns of each before the slower ones leave."""
MOST_STEPS = 100_000
"""Planned by both sides, which are ended long before."""


@dataclass(frozen=True)
class Size:
    """A Llama with tied embeddings."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    length: int
    """Tokens in a sequence."""
    batch: int
    """Tokens in one optimizer step."""
    steps: int
    """Of one turn, unless told otherwise."""


SIZES = {
    "1M": Size(vocabulary=2048, width=128, layers=4, heads=4, length=256, batch=4096, steps=8),
    "20M": Size(vocabulary=8192, width=384, layers=10, heads=6, length=512, batch=4096, steps=1),
    # A vocabulary of today's size: most of the parameters, and of the memory, are the output head's.
    "20M-150k": Size(vocabulary=150_016, width=128, layers=4, heads=4, length=512, batch=4096, steps=1),
    "160M": Size(vocabulary=32_768, width=768, layers=12, heads=12, length=2048, batch=32_768, steps=8),
}
RANKS_OF = {"ours": RANKS, "ddp": RANKS, "alone": 1}
"""Processes of ours, and of the two ways in which the peer may use the cores."""


class Side:
    """One way to train, in ranks of its own that rest between turns."""

    def __init__(self, folder: Path, way: str, size: str, precision: str, *, compiled: bool) -> None:
        self.way, self.compiled = way, compiled
        self._batch = SIZES[size].batch
        self._log = folder / f"{way}-{precision}-{compiled}.log"
        number = RANKS_OF[way]
        port = free_port()
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(RANKS // number)}
        if GPU:
            # Of several, Trainer would use all.
            env["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
        if number > 1:
            env |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        told = [way, str(folder), size, precision, str(compiled), uuid.uuid4().hex]
        with self._log.open("w") as log:
            self._ranks = [
                subprocess.Popen(
                    [sys.executable, __file__, "--rank-of", *told],
                    env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)} if number > 1 else env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
                for rank in range(number)
            ]

    def turn(self, steps: int) -> tuple[float, float]:
        """Let it do a few steps; tokens a second by the clock, and of the processors' time."""
        for rank in self._ranks:
            assert rank.stdin
            print(steps, file=rank.stdin, flush=True)
        clocks, processors = zip(*map(self._heard, self._ranks), strict=True)
        return self._batch * steps / max(clocks), self._batch * steps / sum(processors)

    def warm_up(self) -> None:
        """Wait for the end of the warm-up."""
        for rank in self._ranks:
            self._heard(rank)

    def peak(self) -> int:
        """The most memory that its processes have had resident, in bytes."""
        told = [Path(f"/proc/{rank.pid}/status").read_text().split() for rank in self._ranks]
        return sum(int(words[words.index("VmHWM:") + 1]) * 1024 for words in told)

    def leave(self) -> None:
        """End its processes."""
        for rank in self._ranks:
            rank.kill()
            rank.communicate()

    def _heard(self, rank: "subprocess.Popen[str]") -> tuple[float, float]:
        assert rank.stdout
        for line in rank.stdout:
            if line.startswith(SAID):
                clock, processor = line.removeprefix(SAID).split()
                return float(clock), float(processor)
        raise SystemExit(f"{self.way} has failed:\n{self._log.read_text()[-3000:]}")


SAID = "seconds "


def turns() -> Callable[[], None]:
    """To be called at the end of every step of a rank: holds it back until its next turn."""
    left, clock, processor = WARMUP, time.perf_counter(), time.process_time()

    def end_of_step() -> None:
        nonlocal left, clock, processor
        left -= 1
        if left == 0:
            if GPU:
                torch.cuda.synchronize()
            print(f"{SAID}{time.perf_counter() - clock} {time.process_time() - processor}", flush=True)
            left = int(sys.stdin.readline() or os._exit(0))
            clock, processor = time.perf_counter(), time.process_time()

    return end_of_step


def main() -> None:
    """The cases, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1M,20M")
    parser.add_argument("--precision", default="FP32,BF16")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=0, help="of a turn; by default 8, at 20M 1")
    parser.add_argument("--peer", choices=["best", "ddp", "alone"], default="best")
    parser.add_argument("--compile", choices=["best", "never", "always"], default="best")
    parser.add_argument("--rank-of", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if GPU and not arguments.rank_of and (arguments.compile == "best" or arguments.peer == "ddp"):
        parser.error("on a GPU say --compile never or always, and no --peer ddp")
    if arguments.rank_of:
        way, folder, size, precision, compiled, name = arguments.rank_of
        train = ours if way == "ours" else _peer
        batch = SIZES[size].batch
        train(Path(folder), name, batch, RANKS_OF[way], precision, compiled == "True", turns())
        return
    cases = {}
    for size in arguments.size.split(","):
        with tempfile.TemporaryDirectory() as place:
            write_data(Path(place), SIZES[size])
            for precision in arguments.precision.split(","):
                cases[f"{size} {precision}"] = _case(Path(place), size, precision, arguments)
    print(json.dumps({"benchmark": "train", "cases": cases}))


def _case(folder: Path, size: str, precision: str, arguments: argparse.Namespace) -> dict[str, Any]:
    steps = arguments.steps or SIZES[size].steps
    compiles = {"best": (False, True), "never": (False,), "always": (True,)}[arguments.compile]
    peers = ("ddp", "alone") if arguments.peer == "best" else (arguments.peer,)
    if RANKS == 1:
        peers = ("alone",)
    with contextlib.ExitStack() as stack:
        sides = []
        for way in ("ours", *peers):
            for compiled in compiles:
                sides.append(Side(folder, way, size, precision, compiled=compiled))
                stack.callback(sides[-1].leave)
                sides[-1].warm_up()
        looks = {side: [side.turn(steps) for _ in range(LOOKS)] for side in sides}
        for side, rates in looks.items():
            how = f"{side.way}{' compiled' * side.compiled}"
            print(f"{size} {precision} {how}: {max(rates)[0]:,.0f} tokens/s", flush=True)

        def fastest(ours: bool) -> Side:
            found = [side for side in sides if (side.way == "ours") == ours]
            return max(found, key=lambda side: max(looks[side]))

        pair = {"ours": fastest(True), "trainer": fastest(False)}
        for side in sides:
            if side not in pair.values():
                side.leave()
        found: dict[str, list[tuple[float, float]]] = {who: [] for who in pair}
        for number in range(arguments.rounds):
            for who in sorted(pair, reverse=number % 2 == 1):
                found[who].append(pair[who].turn(steps))
        peaks = {who: side.peak() for who, side in pair.items()}
    clock, processor = (
        statistics.median(ours[by] / peer[by] for ours, peer in zip(*found.values(), strict=True))
        for by in (0, 1)
    )
    memory = peaks["ours"] / peaks["trainer"]
    print(
        f"{size} {precision}: ratio {clock:.3f}, by processor time {processor:.3f}, "
        f"of its memory {memory:.3f}",
        flush=True,
    )
    return {
        **{who: [round(rate) for rate, _ in rates] for who, rates in found.items()},
        "peer": pair["trainer"].way,
        "compiled": {who: side.compiled for who, side in pair.items()},
        "ratio": clock,
        "processorRatio": processor,
        "peakBytes": peaks,
        "memoryRatio": memory,
    }


# --- Data: a model's config, a tokenizer, and a committed Prepare artifact. ---


def write_data(folder: Path, size: Size) -> None:
    import numpy as np
    from transformers import LlamaConfig

    from ixt_workloads.steps.prepare.blocks import BlockCounts, packed_file
    from ixt_workloads.steps.prepare.tokens import Tokenized
    from ixt_workloads.store import ArtifactWriter, open_store

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from make.models import tokenizer_folder

    LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=8 * size.width // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    ).save_pretrained(folder / "model")
    tokenizer_folder(folder / "tokenizer")
    dice, ids = random.Random(0), np.random.default_rng(0)
    nothing = np.zeros(0, np.uint32)
    documents: list[Tokenized] = []
    while sum(len(document.body) for document in documents) < SEQUENCES * size.length:
        length = round(dice.lognormvariate(5.3, 0.8))  # half of them longer than 200 tokens
        body = ids.integers(0, size.vocabulary, length, dtype=np.uint32)
        documents.append(Tokenized(nothing, nothing.astype(np.uint8), body, np.ones(length, np.uint8), 0))
    counts = BlockCounts(documents=len(documents))
    places = [(number, 0) for number in range(len(documents))]
    data = packed_file(documents, places, size.length, size.vocabulary, pad=0, cut=True, counts=counts)
    writer = ArtifactWriter(open_store(_storage(folder)), _PREPARED, "Prepare", {}, run="bench", attempt=0)
    writer.add("main-00000.arrow", data)
    writer.add("conditioning.json", b"null")
    writer.commit(counts.summary(1, size.vocabulary), ["main-00000.arrow", "conditioning.json"])


_PREPARED = "0" * 32


def _storage(folder: Path) -> str:
    return f"file://{folder}/storage"


# --- The two sides, each in a rank's process. ---


def ours(
    folder: Path,
    name: str,
    batch: int,
    ranks: int,
    precision: str,
    compiled: bool,
    end_of_step: Callable[[], None],
    reporter: Reporter | None = None,
) -> None:
    from ixt_workloads.contract.configs import TrainConfig
    from ixt_workloads.contract.graph import Task
    from ixt_workloads.contract.settings import (
        Checkpoint,
        Compile,
        Evaluate,
        ModelSource,
        Precision,
        StageType,
        Train,
    )
    from ixt_workloads.frame import Step
    from ixt_workloads.steps.train.ranks import world
    from ixt_workloads.steps.train.train import train
    from ixt_workloads.store import open_store

    config = TrainConfig(
        stage_type=StageType.PRETRAIN,
        train=Train(
            max_tokens=batch * MOST_STEPS,
            batch_tokens=batch,
            precision=Precision(precision),
            compile=Compile.ENABLED if compiled else Compile.DISABLED,
            num_proc_per_node=ranks,
            checkpoint=Checkpoint(interval_seconds=86_400),
        ),
        seed=0,
        evaluate=Evaluate(),
        model=ModelSource(config=f"file://{folder}/model", tokenizer=f"file://{folder}/tokenizer"),
    )
    names = {"kind": "Train", "stage": "bench", "key": name, "run": "bench", "run_uid": name}
    inputs = {"prepare": _PREPARED}
    task = Task(config=config, storage=_storage(folder), inputs=inputs, attempt=0, indexes=1, **names)
    step = Step(task=task, index=0, store=open_store(task.storage), reporter=reporter or Reporter())
    with world() as here:
        train(step, here, threading.Event(), end_of_step, lambda: None)


def _peer(
    folder: Path,
    name: str,
    batch: int,
    ranks: int,
    precision: str,
    compiled: bool,
    end_of_step: Callable[[], None],
) -> None:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        default_data_collator,
    )

    from ixt_workloads.data.packed import PackedData
    from ixt_workloads.store import Artifact, open_store

    data = PackedData.open(Artifact.open(open_store(_storage(folder)), _PREPARED), "main")
    rows = []
    for number in range(len(data)):
        row = data[number]
        ids = torch.from_numpy(row.input_ids.astype("int64"))
        rows.append({"input_ids": ids, "labels": ids.where(torch.arange(len(ids)) < row.length, -100)})

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            end_of_step()

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder / "model"))
    model.config.use_cache = False
    arguments = TrainingArguments(
        output_dir=str(folder / name),
        max_steps=MOST_STEPS,
        per_device_train_batch_size=batch // data.sequence_length // ranks,
        learning_rate=3e-4,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        bf16=precision == "BF16",
        torch_compile=compiled,
        use_cpu=not GPU,
        ddp_backend="gloo" if ranks > 1 else None,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=GPU,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=default_data_collator,
        callbacks=[Clock()],
    ).train()


if __name__ == "__main__":
    main()
