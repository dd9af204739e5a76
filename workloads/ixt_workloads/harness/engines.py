"""What answers of a trained model are computed by: transformers, and vLLM for what large models write."""

import contextlib
import gc
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from ixt_workloads import engine
from ixt_workloads.attention import ATTENTION
from ixt_workloads.evaluation import BATCH_TOKENS
from ixt_workloads.losses import IGNORED, token_losses

LARGE = 100_000_000
"""Matmul parameters from which on a model writes by vLLM, whose start takes as long as small models write."""

Pair = tuple[list[int], list[int]]
"""Tokens of a context, and of what is said after it."""


class Wanted(NamedTuple):
    """How an answer is written."""

    until: tuple[str, ...]
    """Texts that end it, which are not part of it."""
    most: int
    """Tokens."""
    temperature: float
    """0: greedily."""
    top_p: float
    top_k: int
    """0: of all tokens."""


Prompt = tuple[list[int], Wanted]
Beat = Callable[[int], None]


class Writer(Protocol):
    """Writes answers."""

    def write(self, prompts: Sequence[Prompt], draw: int, beat: Beat) -> list[tuple[str, int]]:
        """The text of each answer, and its tokens; another `draw` draws others. `beat` hears how many are
        written."""


class Scorer(NamedTuple):
    """Tells how likely a model finds what is said."""

    model: Any
    device: torch.device

    @torch.no_grad()
    def score(self, pairs: Sequence[Pair], beat: Beat) -> list[tuple[float, bool]]:
        """The log-probability of what is said after each context, and whether every token of it is the most
        likely one. A first token without any context counts nothing."""
        self.model.set_attn_implementation(ATTENTION)
        found = [(0.0, True)] * len(pairs)
        lengths = [len(context) + len(said) for context, said in pairs]
        done = 0
        for places in batches(lengths, BATCH_TOKENS[self.device.type]):
            for place, scored in zip(places, self._batch([pairs[place] for place in places]), strict=True):
                found[place] = scored
            done += len(places)
            beat(done)
        return found

    def _batch(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        longest = max(2, *(len(context) + len(said) for context, said in pairs))
        ids = torch.zeros(len(pairs), longest, dtype=torch.long)
        labels = torch.full((len(pairs), longest - 1), IGNORED)
        for row, (context, said) in enumerate(pairs):
            whole = torch.tensor([*context, *said], dtype=torch.long)
            ids[row, : len(whole)] = whole
            first = max(1, len(context))
            labels[row, first - 1 : max(first, len(whole)) - 1] = whole[first:]
        ids, labels = ids.to(self.device), labels.to(self.device)
        if not (labels != IGNORED).any():
            return [(0.0, True)] * len(pairs)
        losses = token_losses(self.model, {"input_ids": ids[:, :-1]}, labels.reshape(-1))
        counted = labels != IGNORED
        nats = (losses.nats.reshape(labels.shape).double() * counted).sum(1)
        right = ((losses.best.reshape(labels.shape) == labels) | ~counted).all(1)
        return list(zip((-nats).tolist(), right.tolist(), strict=True))


class TransformersWriter(NamedTuple):
    """Writes by transformers."""

    model: Any
    device: torch.device
    tokenizer: Any
    ends: frozenset[int]
    seed: int

    def write(self, prompts: Sequence[Prompt], draw: int, beat: Beat) -> list[tuple[str, int]]:
        """See Writer."""
        # The only one that each family has, and that does all it asks for with a cache of keys and values.
        self.model.set_attn_implementation("eager")
        torch.manual_seed(self.seed + draw)
        alike = defaultdict[Wanted, list[int]](list)
        for place, (_, wanted) in enumerate(prompts):
            alike[wanted].append(place)
        found = [("", 0)] * len(prompts)
        done = 0
        for wanted, places in alike.items():
            lengths = [len(prompts[place][0]) + wanted.most for place in places]
            for batch in batches(lengths, BATCH_TOKENS[self.device.type]):
                some = [places[index] for index in batch]
                for place, answer in zip(
                    some, self._written([prompts[place][0] for place in some], wanted), strict=True
                ):
                    found[place] = answer
                done += len(some)
                beat(done)
        return found

    @torch.no_grad()
    def _written(self, prompts: Sequence[list[int]], wanted: Wanted) -> list[tuple[str, int]]:
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        longest = max(1, *map(len, prompts))
        ids = torch.full((len(prompts), longest), pad)
        mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            if prompt:
                ids[row, -len(prompt) :] = torch.tensor(prompt)
                mask[row, -len(prompt) :] = 1
        drawn: dict[str, Any] = {"do_sample": False}
        if wanted.temperature:
            drawn = {
                "do_sample": True,
                "temperature": wanted.temperature,
                "top_p": wanted.top_p,
                "top_k": wanted.top_k,
            }
        written = self.model.generate(
            ids.to(self.device),
            attention_mask=mask.to(self.device),
            max_new_tokens=wanted.most,
            eos_token_id=sorted(self.ends) or None,
            pad_token_id=pad,
            **({"stop_strings": list(wanted.until), "tokenizer": self.tokenizer} if wanted.until else {}),
            **drawn,
        )[:, longest:].tolist()
        return [self._text(row) for row in written]

    def _text(self, ids: list[int]) -> tuple[str, int]:
        end = next((place for place, value in enumerate(ids) if value in self.ends), len(ids))
        return self.tokenizer.decode(ids[:end], skip_special_tokens=True), end


class VllmWriter(NamedTuple):
    """Writes by an engine of vLLM that runs beside this process."""

    engine: Any
    ends: frozenset[int]
    seed: int

    def write(self, prompts: Sequence[Prompt], draw: int, beat: Beat) -> list[tuple[str, int]]:
        """See Writer."""
        from vllm import SamplingParams

        settings = [
            SamplingParams(
                max_tokens=wanted.most,
                temperature=wanted.temperature,
                top_p=wanted.top_p,
                top_k=wanted.top_k,
                stop=list(wanted.until),
                stop_token_ids=sorted(self.ends),
                seed=self.seed + draw,
            )
            for _, wanted in prompts
        ]
        asked = [{"prompt_token_ids": ids} for ids, _ in prompts]
        told = self.engine.generate(asked, settings, use_tqdm=False)
        beat(len(told))
        return [(each.outputs[0].text, len(each.outputs[0].token_ids)) for each in told]


@contextlib.contextmanager
def vllm_engine(folder: Path, most: int) -> Iterator[Any]:
    """An engine of vLLM with the model in a folder and a context of `most` tokens."""
    os.environ |= {**engine.MEMORY, **os.environ, **engine.QUIET, "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    from vllm import LLM

    cpu = not torch.cuda.is_available()
    started = LLM(
        model=str(folder),
        dtype="float32" if cpu else "auto",
        enforce_eager=cpu,
        load_format="safetensors",
        generation_config="vllm",
        max_model_len=most,
    )
    try:
        yield started
    finally:
        started.llm_engine.engine_core.shutdown()


def writes_by_vllm(parameters: int) -> bool:
    """Whether what a model of so many parameters writes is left to vLLM: it is large, and vLLM is there."""
    return parameters >= LARGE and engine.installed() is not None


def released() -> None:
    """Give back the memory of a model that nobody refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Places of rows of like length together, the longest first, so that too little memory shows at once."""
    found: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if found and (len(found[-1]) + 1) * lengths[found[-1][0]] <= tokens:
            found[-1].append(place)
        else:
            found.append([place])
    return found
