"""Exports in vLLM: whether it says what the trained model says, family by family.

    python benchmarks/reload.py [--families llama,qwen3,gemma2] [--tokens 24]

Each family's model is tiny, with random weights large enough that attention matters, and is exported as a
training does, in float32. Greedy tokens on a prompt are those of transformers before the export, and of vLLM
from the folder. A family that vLLM does not take is named with its words. Each is a process that starts vLLM:
a minute on two cores. The last line is JSON: by family whether the tokens are the same, and both; how many
are.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

FAMILIES = "llama-tied,llama3-rope,qwen2,qwen3,qwen3-moe,mistral-window,gemma2,gemma3-text,olmo2,phi3-window"
SIZES = {"hidden_size": 128, "head_dim": 32, "vocab_size": 128, "intermediate_size": 128}
"""Larger than the tests': vLLM's attention on a CPU wants heads of 32."""
PROMPT = [7, 11, 13, 17, 19, 23, 29, 31, 37, 41]
"""Longer than the windows of those families that have some."""


def main() -> None:
    """One family after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", default=FAMILIES)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_asked(arguments.one, arguments.tokens)))
        return
    found: dict[str, Any] = {}
    for name in arguments.families.split(","):
        command = [sys.executable, __file__, "--one", name, "--tokens", str(arguments.tokens)]
        done = subprocess.run(command, env=_env(), capture_output=True, text=True, check=False)
        # vLLM writes to the same place, also when it ends.
        said = [line for line in done.stdout.splitlines() if line.startswith('{"same"')]
        if not said:
            print(done.stderr[-10_000:], file=sys.stderr)
            words = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
            found[name] = {"same": False, "refused": words[-1][-300:] if words else done.stderr[-300:]}
        else:
            found[name] = json.loads(said[-1])
        print(f"{name}: {found[name]}", flush=True)
    same = sum(each["same"] for each in found.values())
    print(json.dumps({"benchmark": "reload", "families": found, "same": same, "of": len(found)}))


def _asked(name: str, count: int) -> dict[str, Any]:
    """What both say."""
    import torch
    from make.families import family
    from make.models import tokenizer_folder

    from ixt_workloads import models
    from ixt_workloads.steps.train.parallel import full_state
    from ixt_workloads.steps.train.ranks import world
    from ixt_workloads.tokenizer import load_tokenizer

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "export"
        folder.mkdir()
        model = family(name, **SIZES)
        with world():
            state = full_state(model)
        tokenizer = load_tokenizer(tokenizer_folder(Path(place) / "tokenizer"))
        models.save_folder(folder, model, tokenizer, state=state, dtype=torch.float32, contract=None)
        model.eval()
        model.config.use_cache = True
        wanted = model.generate(
            torch.tensor([PROMPT]),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=1,
        )
        ours = wanted[0, len(PROMPT) :].tolist()
        theirs = _of_vllm(folder, count)
    return {"same": ours == theirs, "transformers": ours, "vllm": theirs}


def _of_vllm(folder: Path, count: int) -> list[int]:
    from vllm import LLM, SamplingParams

    engine = LLM(
        str(folder),
        dtype="float32",
        enforce_eager=True,
        max_model_len=128,
        max_num_seqs=2,
        load_format="safetensors",
        generation_config="vllm",
        skip_tokenizer_init=True,
    )
    sampling = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
    answers = engine.generate([{"prompt_token_ids": PROMPT}], sampling, use_tqdm=False)
    return list(answers[0].outputs[0].token_ids)


def _env() -> dict[str, str]:
    from ixt_workloads.steps.annotate.server import environment

    few = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return environment({**few, **os.environ})


if __name__ == "__main__":
    main()
