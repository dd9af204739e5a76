"""The process of a Prepare: packs one arm's documents, block by block."""

import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads.contract.configs import PrepareConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.settings import LossOnFeedback, Method
from ixt_workloads.data.locate import local_folder
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.prepare.blocks import BlockCounts, packed_file
from ixt_workloads.steps.prepare.joined import Bands, contract_of, open_bands, prefixes_of
from ixt_workloads.steps.prepare.packing import SMALLEST_CUT
from ixt_workloads.steps.prepare.tokens import Tokenized, Tokenizing
from ixt_workloads.store import Artifact, ArtifactWriter

_HELD = pa.schema(
    [
        ("id", pa.string()),
        ("level", pa.int8()),
        ("text", pa.large_string()),
        ("messages", pa.large_string()),
        ("critique", pa.large_string()),
    ]
)


ROWS_READ = 64
"""Documents that are read at a time."""


@dataclass(frozen=True)
class BlockRecipe:
    """What the blocks of an arm are made of."""

    config: PrepareConfig
    inventory: Artifact
    bands: Bands
    tokenizing: Tokenizing

    @property
    def splits(self) -> tuple[str, ...]:
        """Which files each block has."""
        return ("main", "anneal") if self.config.method is Method.ANNEALED else ("main",)


def run(step: Step) -> Result:
    """Write the blocks that nobody has written or taken; commit when all are there."""
    config: PrepareConfig = step.config
    inventory = step.input("inventory")
    docs = [path for path in inventory.paths if path.startswith("docs-")]
    blocks = [path.removeprefix("docs-").removesuffix(".parquet") for path in docs]
    tokenizing = _tokenizing(config)
    bands, held = open_bands(
        config,
        [step.input(role) for role in sorted(step.task.inputs) if role.startswith("feedback/")],
        step.input("holdout") if "holdout" in step.task.inputs else None,
        blocks,
        lambda texts: tokenizing.cut(texts, config.conditioning.max_feedback_tokens),
    )
    contract = contract_of(config, bands, blocks)
    recipe = BlockRecipe(config, inventory, bands, tokenizing)
    writer = step.writer()

    total = int(inventory.summary["documents"])
    for done, name in enumerate(step.ring(blocks), 1):
        written = all(writer.has(_file(split, name)) for split in recipe.splits)
        if not written and step.take(name):
            for split, data in _block(recipe, name).items():
                writer.add(_file(split, name), data)
        step.reporter.update(total * done // len(blocks), total, "documents", f"block {name}")

    files = [_file(split, name) for split in recipe.splits for name in blocks]
    missing = [name for name in files if not writer.has(name)]
    if missing:
        return Result(
            outcome=Outcome.SHARED,
            key=step.task.key,
            message=f"this worker is done; {len(missing)} of {len(files)} files are with others",
        )
    counts = _counts(writer, blocks)
    if "anneal" in recipe.splits:
        counts.anneal = _counts(writer, blocks, "anneal").sequences
    _check(recipe, counts)
    writer.add("holdout.parquet", _holdout(inventory, held))
    writer.add("conditioning.json", (contract.model_dump_json(indent=1) if contract else "null").encode())
    summary = counts.summary(len(blocks), tokenizing.vocabulary)
    writer.commit(summary, [*files, "holdout.parquet", "conditioning.json"])
    return Result(
        outcome=Outcome.COMMITTED,
        key=step.task.key,
        message=f"{counts.tokens:,} tokens in {counts.sequences:,} sequences, "
        f"{summary['paddingPercent']} % padding",
        metrics={"tokens": counts.tokens, "paddingPercent": summary["paddingPercent"]},
    )


def _tokenizing(config: PrepareConfig) -> Tokenizing:
    # Imported here: it takes a second, and is not needed where the artifact is committed already.
    from ixt_workloads.tokenizer import load_tokenizer, start_tokens

    source = config.tokenizer
    place = source.source or source.tokenizer or ""
    folder = local_folder(place, source.revision, source.credentials_secret_ref)
    tokenizer = load_tokenizer(folder)
    if config.stage_type.is_chat and not tokenizer.chat_template:
        raise StepError(
            Exit.CONFIG, f"the tokenizer in {folder} has no chat template", "an SFT stage needs one: add it"
        )
    return Tokenizing(tokenizer, start_tokens(tokenizer))


def _file(split: str, block: str) -> str:
    return f"{split}-{block}.arrow"


def _block(recipe: BlockRecipe, name: str) -> dict[str, bytes]:
    """The files of a block by split."""
    config = recipe.config
    docs = pq.ParquetFile(recipe.inventory.file(f"docs-{name}.parquet"))
    rows = docs.read(columns=["id"]).to_pylist()
    levelled = prefixes_of(config, rows, recipe.bands.of_block(name))
    top = [place for place, (level, _) in enumerate(levelled) if level == config.conditioning.levels]
    chosen = {"main": top if config.method is Method.FILTERED else list(range(len(rows))), "anneal": top}
    levels = Counter(str(level) for level, _ in levelled if level)
    return {
        split: _packed(recipe, _texts(recipe, docs, set(chosen[split])), levelled, chosen[split], levels)
        for split in recipe.splits
    }


def _texts(recipe: BlockRecipe, docs: pq.ParquetFile, places: Set[int]) -> Iterator[str]:
    """The documents or conversations at these places, in order. They are never all in memory."""
    column = "messages" if recipe.config.stage_type.is_chat else "text"
    batches = docs.iter_batches(ROWS_READ, columns=[column])
    texts = (text for batch in batches for text in batch.column(0).to_pylist())
    return (text for place, text in enumerate(texts) if place in places)


def _packed(
    recipe: BlockRecipe,
    texts: Iterable[str],
    levelled: Sequence[tuple[int, str]],
    places: Sequence[int],
    levels: Counter[str],
) -> bytes:
    """The file with a block's documents at `places`, whose texts are `texts`."""
    config, chat = recipe.config, recipe.config.stage_type.is_chat
    loss = config.conditioning.loss_on_feedback or LossOnFeedback.INCLUDE
    length = config.prepare.sequence_length
    make = recipe.tokenizing.conversations if chat else recipe.tokenizing.documents
    documents = make(texts, [levelled[place][1] for place in places], loss)
    cut = 0
    if chat:
        documents, places, cut = _fitted(documents, places, length)
    conditioned = sum(bool(levelled[place][1]) for place in places)
    counts = BlockCounts(documents=len(places), conditioned=conditioned, cut=cut, levels=levels)
    longest = max((len(document.prefix) for document in documents), default=0)
    if longest + SMALLEST_CUT > length:
        raise StepError(
            Exit.CONFIG,
            f"feedback of {longest} tokens leaves no room in sequences of {length}",
            "lower conditioning.maxFeedbackTokens or raise prepare.sequenceLength",
        )
    # A segment's level is that of the feedback before it; other methods put none there.
    shown = config.method.conditions
    return packed_file(
        documents,
        [(place, levelled[place][0] if shown else 0) for place in places],
        length,
        recipe.tokenizing.vocabulary,
        pad=recipe.tokenizing.pad,
        cut=not chat,
        counts=counts,
    )


def _fitted(
    documents: Sequence[Tokenized], places: Sequence[int], length: int
) -> tuple[list[Tokenized], list[int], int]:
    """Conversations cut at a length, without those with nothing left to learn; how many that concerns."""
    kept, cut = [], 0
    for document, place in zip(documents, places, strict=True):
        short = replace(document, body=document.body[:length], mask=document.mask[:length])
        learnt = bool(short.mask.any())
        cut += len(document.body) > length or not learnt
        if learnt:
            kept.append((short, place))
    return [document for document, _ in kept], [place for _, place in kept], cut


def _counts(writer: ArtifactWriter, blocks: Sequence[str], split: str = "main") -> BlockCounts:
    """The sum over the blocks of a split, read from their files."""
    counts = BlockCounts()
    for name in blocks:
        counts.merge(BlockCounts.read(writer.local(_file(split, name))))
    return counts


def _check(recipe: BlockRecipe, counts: BlockCounts) -> None:
    """Raise StepError when there is nothing to train on."""
    method, top = recipe.config.method, recipe.config.conditioning.levels
    if not counts.sequences and method is not Method.FILTERED:
        raise StepError(
            Exit.DATA,
            f"nothing to train on: in none of {counts.cut} conversations does the assistant say anything "
            f"within {recipe.config.prepare.sequence_length} tokens",
            "raise prepare.sequenceLength",
        )
    if not counts.sequences or ("anneal" in recipe.splits and not counts.anneal):
        levels = ", ".join(f"{count} of level {level}" for level, count in sorted(counts.levels.items()))
        raise StepError(
            Exit.DATA,
            f"{method} finds no document of the top level {top}: annotated are {levels or 'none'}",
            "annotate more documents (samplePercent), or use conditioning.calibration Quantile",
        )


def _holdout(inventory: Artifact, held: Bands) -> bytes:
    """The held-out documents with their levels and critiques."""
    rows = pq.read_table(inventory.file("holdout.parquet"), columns=["id", "text", "messages"]).to_pylist()
    feedback = held.of_block("holdout") if held.artifacts else {}

    def told(row: Mapping[str, Any]) -> dict[str, Any]:
        entry = feedback.get(row["id"])
        return {"level": entry.level, "critique": entry.said or None} if entry else {"level": 0}

    sink = io.BytesIO()
    table = pa.Table.from_pylist([{**row, **told(row)} for row in rows], _HELD)
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Tokenizers need no torch, which would take 600 MB and several seconds: transformers goes without.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    sys.modules["torch"] = None  # type: ignore[assignment]
    main(run)
