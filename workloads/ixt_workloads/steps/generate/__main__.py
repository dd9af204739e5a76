"""Have a lane's policy answer prompts: `python -m ixt_workloads.steps.generate`."""

import os
import sys
from functools import partial
from typing import Any

from ixt_workloads import logs
from ixt_workloads.chat_template import ChatTemplate, Refused
from ixt_workloads.contract.configs import GenerateConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.metrics import RETRIES, PromptResult
from ixt_workloads.contract.results import Figures, Outcome, Result
from ixt_workloads.data.chat import Conversation
from ixt_workloads.data.locate import local_folder
from ixt_workloads.data.parquet import table_of
from ixt_workloads.data.pinned import check_model
from ixt_workloads.feedback.prefixes import FILE, Prefixes
from ixt_workloads.flops import ModelShape, flops_by_purpose, judging_flops
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.annotate.asking import Asking, until_told
from ixt_workloads.steps.annotate.client import Declined, GivenUp, Judges, TooLong, served
from ixt_workloads.steps.annotate.sharing import SharedFiles
from ixt_workloads.steps.annotate.wire import ServedModel
from ixt_workloads.steps.generate.samples import (
    CONVINCING,
    Answered,
    Prompt,
    Sample,
    Tally,
    tally_of_prompt,
    to_parquet,
)
from ixt_workloads.steps.generate.selection import chosen, feedback_of, held_out_feedback, parts

SAMPLES_A_FILE = 512
"""About how many samples a file has: what a process that dies loses at worst is what it has in flight."""

TOO_LONG = "prompt and rollout.maxTokens do not fit the policy's context"
COLUMNS = ["id", "source", "messages", "answer", "extra"]


def run(step: Step) -> Result:
    """Write this index's share of the files, and commit when all are there."""
    config: GenerateConfig = step.config
    logs.take_over()
    writing = Writing(step, config, _shape(step), files := PromptFiles(step, config))
    if files.outstanding():
        until_told(writing.ask_all(served("policy", partial(step.reporter.add, RETRIES, 1))))
    if missing := files.outstanding():
        return Result(
            outcome=Outcome.SHARED,
            key=step.task.key,
            message=f"this worker is done; {len(missing)} of {len(files.files)} files are with others",
        )
    tally = files.tally()
    tally.check(1)
    fingerprint = {"engine": writing.engine} if writing.engine else {}
    summary = tally.summary(evaluates=bool(config.prefixes))
    files.writer.commit(summary, files.files, fingerprint)
    flops = flops_by_purpose(config.kind, summary)
    return Result(outcome=Outcome.COMMITTED, key=step.task.key, message=tally.told(), flops=flops)


class PromptFiles(SharedFiles[Prompt, Answered, Tally]):
    """The files of a round's samples, and the prompts that each answers."""

    def __init__(self, step: Step, config: GenerateConfig) -> None:
        self._config = config
        inventory = step.input("prompts")
        wanted = "holdout" if config.prefixes else "docs-"
        self._shards = [inventory.file(path) for path in inventory.paths if path.startswith(wanted)]
        of_shards = [table_of(path, ["id"])["id"].to_pylist() for path in self._shards]
        names = [name for of_shard in of_shards for name in of_shard]
        if not names:
            what = "held-out prompt" if config.prefixes else "prompt"
            hint = "give the stage more prompts, of which a tenth is held out at most"
            more = ", or set evaluate.holdoutDocuments to 0" if config.prefixes else ""
            raise StepError(Exit.DATA, f"there is no {what} to answer", hint + more)
        generation = config.generation
        places = chosen(names, generation.prompts_per_round, config.round, config.seed)
        self._chosen: list[list[int]] = []
        first = 0
        for of_shard in of_shards:
            end = first + len(of_shard)
            self._chosen.append([int(place) - first for place in places if first <= place < end])
            first = end
        check_model(config.model, step.task.pins, "tokenizer")
        self._tokenizing = _Tokenizing(config, _contract(step))
        most = max(1, SAMPLES_A_FILE // (generation.samples_per_prompt * self._tokenizing.prefixes))
        found = parts([len(each) for each in self._chosen], most)
        self._parts = {f"docs-{number:05d}.parquet": part for number, part in enumerate(found)}
        super().__init__(step, list(self._parts))

    @property
    def items(self) -> int:
        """How often a prompt is to be answered."""
        return sum(map(len, self._chosen)) * self._tokenizing.prefixes

    @property
    def ends(self) -> list[int]:
        """Tokens that end an answer."""
        return self._tokenizing.ends

    def count(self, text: str) -> int:
        """Tokens of an answer."""
        return self._tokenizing.count(text)

    def read(self, name: str) -> list[Prompt]:
        """The prompts of a file, as they are asked."""
        shard, first, end = self._parts[name]
        rows = table_of(self._shards[shard], COLUMNS).take(self._chosen[shard][first:end])
        return [each for row in rows.to_pylist() for each in self._tokenizing.prompts(row)]

    def packed(self, rows: list[Answered], sums: Tally) -> bytes:
        """A file of samples."""
        return to_parquet(rows, self._config.round, sums)

    def nothing(self) -> Tally:
        """A tally of no prompts."""
        return Tally()


class Writing(Asking[Prompt, Answered, Tally]):
    """Has the policy write samples, those of a prompt in one request: the server reads it once for all."""

    unit = "prompts"

    def __init__(self, step: Step, config: GenerateConfig, shape: ModelShape, files: PromptFiles) -> None:
        super().__init__(step, files)
        self._prompts = files
        self._generation = config.generation
        self._shape = shape
        self._context: int | None = None
        self.engine = ""

    async def _begin(self, servers: Judges, model: ServedModel) -> None:
        self.engine, self._context = model.engine, model.context

    async def _answer(self, servers: Judges, item: Prompt) -> Answered:
        most = self._generation.max_tokens
        if not item.ids:
            return Answered(item, result=PromptResult.TEMPLATE, reason=item.refused)
        if self._context is not None and len(item.ids) + most > self._context:
            return Answered(item, result=PromptResult.TOO_LONG, reason=TOO_LONG)
        try:
            found = await servers.complete(self._request(item))
        except TooLong:
            return Answered(item, result=PromptResult.TOO_LONG, reason=TOO_LONG)
        except (Declined, GivenUp) as error:
            return Answered(item, result=PromptResult.REFUSED, reason=str(error))
        return Answered(
            item,
            tuple(Sample(text, finish, self._prompts.count(text)) for text, finish in found.texts),
            found.prompt_tokens,
            found.cached_tokens,
            found.completion_tokens,
        )

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        """A completion of the prompt's tokens. Never with a seed: vLLM's CPU engine dies of it."""
        sampling = self._generation
        more = {} if sampling.top_k is None else {"top_k": sampling.top_k}
        return {
            "prompt": list(prompt.ids),
            "n": sampling.samples_per_prompt,
            "temperature": float(sampling.temperature),
            "top_p": float(sampling.top_p),
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": self._prompts.ends,
            **more,
        }

    def _sums_of(self, item: Prompt, row: Answered) -> Tally:
        return tally_of_prompt(row, judging_flops(self._shape, row.computed, row.context))

    def _check(self, seen: Tally) -> None:
        seen.check(CONVINCING)

    def _figures(self, sums: Tally) -> Figures:
        return sums.figures()


class _Tokenizing:
    """The tokenizer, as it asks a policy."""

    def __init__(self, config: GenerateConfig, contract: Prefixes | None) -> None:
        # Imported here: it takes a second, and is not needed where the artifact is committed already.
        from ixt_workloads.tokenizer import load_tokenizer

        source = config.model
        place = source.source or source.tokenizer or ""
        folder = local_folder(place, source.revision, source.credentials_secret_ref)
        tokenizer = load_tokenizer(folder, source.chat_template)
        self._config, self._contract = config, contract
        self._template = ChatTemplate(tokenizer)
        self._template.check(contract.best if contract else None)
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        text, (_, end) = self._template.asked([{"role": "user", "content": "q"}], "a")
        # What the template puts after an answer ends it, if it is a token that no answer has in it.
        after = self._ids(text[end:])[:1] if end < len(text) else ()
        marks = {*tokenizer.all_special_ids}
        ends = {tokenizer.eos_token_id, *(each for each in after if each in marks)}
        self.ends = sorted(each for each in ends if each is not None)

    @property
    def prefixes(self) -> int:
        """How often each prompt is answered: once, held-out ones once under each prefix."""
        return max(1, len(held_out_feedback(self._contract, self._config.prefixes)))

    def prompts(self, row: dict[str, Any]) -> list[Prompt]:
        """A row of an Inventory of prompts, as often as it is to be answered."""
        config = self._config
        asked = held_out_feedback(self._contract, config.prefixes)
        if not asked:
            sampling = config.generation.sampling_feedback
            asked = [feedback_of(self._contract, sampling, row["id"], config.round, config.seed)]
        return [self._prompt(row, prefix, feedback) for prefix, feedback in asked]

    def _prompt(self, row: dict[str, Any], prefix: str, feedback: str) -> Prompt:
        conversation = Conversation.from_json(row["messages"])
        ids: tuple[int, ...] = ()
        refused = ""
        try:
            ids = self._ids(self._template.prompted(conversation, feedback))
        except Refused as why:
            refused = f"the chat template refuses it {why}"
        known = (row["id"], row["source"], conversation, row["answer"], row["extra"])
        return Prompt(*known, prefix, ids, refused)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._ids(text))

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)


def _contract(step: Step) -> Prefixes | None:
    """The prefixes that the policy was trained with; None for a model that knows no feedback."""
    if "policy" not in step.task.inputs:
        return None
    policy = step.input("policy")
    return Prefixes.read(policy) if FILE in policy.paths else None


def _shape(step: Step) -> ModelShape:
    """What the policy costs."""
    if "policy" in step.task.inputs:
        return ModelShape.from_folder(step.input("policy").file("config.json").parent)
    model = step.config.model
    assert model.source
    return ModelShape.from_folder(local_folder(model.source, model.revision, model.credentials_secret_ref))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # As in Prepare: tokenizers need no torch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    sys.modules["torch"] = None  # type: ignore[assignment]
    main(run)
