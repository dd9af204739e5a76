"""The memory that a training takes against what `ixt plan` says of it.

    python benchmarks/training_memory.py [--size 1M,20M] [--precision FP32,BF16] [--recompute None,Full]
    python benchmarks/training_memory.py --table

Each case is a process: it trains a tiny model first, so that all libraries are there, and then trains the
Llama of its size for two steps, with a checkpoint and the export, as a run does. What is told is how far its
resident memory rose above what it was before (VmHWM), where malloc gives back what is freed (otherwise it is
up to a third more, and another figure each time). The last line is JSON: by case, bytes measured and
estimated, and their ratio. --table prints the memory of a rank, by the same arithmetic, of known models;
docs/memory.md has it.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from ixt_workloads.contract.exits import StepError
from ixt_workloads.contract.settings import (
    ActivationCheckpointing,
    MomentsPrecision,
    Optimizer,
    Parallelism,
    Precision,
    Train,
)
from ixt_workloads.sizes import Decoder, fit, memory_of, saved_bytes

MODELS = {
    "1B (Llama 3.2)": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128_256,
        "tie_word_embeddings": True,
    },
    "8B (Qwen 3)": {
        "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
        "tie_word_embeddings": False,
    },
    "32B (Qwen 3)": {
        "model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 25_600, "num_hidden_layers": 64,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
LENGTH = {"1B (Llama 3.2)": 4096, "8B (Qwen 3)": 8192, "32B (Qwen 3)": 8192}


def table() -> list[str]:
    """Lines of a table in Markdown."""
    lines = [
        "| Model | GPUs | GB a GPU | moments | weights | gradients | moments, GB | activations | logits "
        "| in all | at once | computed again |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, config in MODELS.items():
        for ranks in (1, 8, 64):
            for gigabytes in (80, 141):
                lines += [_row(name, Decoder.from_config(config), ranks, gigabytes)]
    return lines


def _row(name: str, decoder: Decoder, ranks: int, gigabytes: int) -> str:
    length = LENGTH[name]
    begin = f"| {name} | {ranks} | {gigabytes} |"
    for moments in MomentsPrecision:
        train = Train(
            max_tokens=10**9,
            batch_tokens=64 * 8 * length,
            optimizer=Optimizer(moments_precision=moments),
            parallelism=Parallelism.AUTO,
        )
        try:
            found = fit(train, decoder, length, ranks=ranks, gpu=True, available=gigabytes * 1e9)
        except StepError:
            continue
        if found.memory.total > 0.95 * gigabytes * 1e9:
            continue
        parts = " | ".join(f"{part / 1e9:.1f}" for part in (*found.memory, found.memory.total))
        again = "nothing" if found.mode is ActivationCheckpointing.NONE else found.mode.value
        return f"{begin} {moments} | {parts} | {found.rows} x {length} | {again} |"
    return f"{begin} does not fit | | | | | | | | |"


def main() -> None:
    """The cases, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1M,20M,100M,300M")
    parser.add_argument("--precision", default="FP32,BF16")
    parser.add_argument("--recompute", default="None,Selective,Full")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.table:
        print(*table(), sep="\n")
        return
    if arguments.one:
        print(json.dumps(_measure(*arguments.one)))
        return
    cases = {}
    for size in arguments.size.split(","):
        for precision in arguments.precision.split(","):
            for mode in arguments.recompute.split(","):
                command = [sys.executable, __file__, "--one", size, precision, mode]
                env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
                found = cases[f"{size} {precision} {mode}"] = json.loads(done.stdout.splitlines()[-1])
                print(f"{size} {precision} {mode}: {found}", flush=True)
    print(json.dumps({"benchmark": "memory", "cases": cases}))


def _measure(size: str, precision: str, mode: str) -> dict[str, Any]:
    from train import Size

    sizes = {
        "tiny": Size(vocabulary=512, width=32, layers=1, heads=2, length=256, batch=512, steps=2),
        "1M": Size(vocabulary=2048, width=128, layers=4, heads=4, length=256, batch=16_384, steps=2),
        "20M": Size(vocabulary=8192, width=384, layers=10, heads=6, length=512, batch=8192, steps=2),
        "100M": Size(vocabulary=32_768, width=768, layers=12, heads=12, length=1024, batch=4096, steps=2),
        "300M": Size(vocabulary=32_768, width=1152, layers=16, heads=9, length=1024, batch=2048, steps=2),
    }
    with tempfile.TemporaryDirectory() as place:
        _train(Path(place, "tiny"), sizes["tiny"], precision, mode)
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        decoder, train = _train(Path(place, size), sizes[size], precision, mode)
        peak = _status("VmHWM")
    given = fit(train, decoder, sizes[size].length, ranks=1, gpu=False).training
    rows = sizes[size].batch // sizes[size].length
    parts = memory_of(decoder, given, ActivationCheckpointing(mode), rows, sizes[size].length)
    estimated = parts.total + saved_bytes(decoder, given)
    return {
        "parameters": decoder.parameters,
        "measured": peak - before,
        "estimated": estimated,
        "ratio": round(estimated / (peak - before), 3),
        "parts": parts._asdict() | {"saved": saved_bytes(decoder, given)},
    }


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def _train(folder: Path, size: Any, precision: str, mode: str) -> tuple[Decoder, Train]:
    from train import _PREPARED, _storage, write_data

    from ixt_workloads.contract.configs import TrainConfig
    from ixt_workloads.contract.graph import Task
    from ixt_workloads.contract.settings import Compile, Evaluate, ModelSource, StageType
    from ixt_workloads.frame import Step
    from ixt_workloads.progress import Reporter
    from ixt_workloads.steps.train.ranks import world
    from ixt_workloads.steps.train.train import train
    from ixt_workloads.store import open_store

    folder.mkdir()
    write_data(folder, size)
    settings = Train(
        max_tokens=size.steps * size.batch,
        batch_tokens=size.batch,
        micro_batch_sequences=size.batch // size.length,
        precision=Precision(precision),
        compile=Compile.DISABLED,
        activation_checkpointing=ActivationCheckpointing(mode),
    )
    config = TrainConfig(
        stage_type=StageType.PRETRAIN,
        train=settings,
        seed=0,
        evaluate=Evaluate(),
        model=ModelSource(config=f"file://{folder}/model", tokenizer=f"file://{folder}/tokenizer"),
    )
    names = {"kind": "Train", "stage": "bench", "key": uuid.uuid4().hex, "run": "bench", "run_uid": "bench"}
    task = Task(
        config=config, storage=_storage(folder), inputs={"prepare": _PREPARED}, attempt=0, indexes=1, **names
    )
    step = Step(task=task, index=0, store=open_store(task.storage), reporter=Reporter())
    with world() as here:
        train(step, here, threading.Event(), lambda: None, lambda: None)
    return Decoder.from_config(json.loads(Path(folder, "model/config.json").read_text())), settings


if __name__ == "__main__":
    main()
