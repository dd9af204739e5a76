"""The process of a Prepare: packs one arm's documents, block by block."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads import logs
from ixt_workloads.contract.configs import PrepareConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.settings import Gate, LossOnFeedback, Method, StageType
from ixt_workloads.data.locate import local_folder
from ixt_workloads.data.memory import reading
from ixt_workloads.data.parquet import parquet, rows_of
from ixt_workloads.data.pinned import check_model, check_tasks
from ixt_workloads.data.questions import read_questions
from ixt_workloads.frame import Step, main
from ixt_workloads.steps.prepare.blocks import BlockCounts, packed_file
from ixt_workloads.steps.prepare.contamination import Tasks
from ixt_workloads.steps.prepare.joined import Bands, Block, base_id, contract_of, open_bands, prefixes_of
from ixt_workloads.steps.prepare.packing import SMALLEST_CUT
from ixt_workloads.steps.prepare.stages import held_out, trained_on
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
MOST_REFUSED_PERCENT = 50
LONGEST_REASON = 300
CONVINCING = 50
"""Documents with feedback from which on the share of one level says something."""
HELD_BEFORE = "held out by an earlier stage"


@dataclass(frozen=True)
class BlockRecipe:
    """What the blocks of an arm are made of."""

    config: PrepareConfig
    bands: Bands
    tokenizing: Tokenizing
    tasks: Tasks | None
    """Looked for in the documents."""
    held_before: frozenset[str]
    """Ids of documents that earlier stages hold out."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Which files each block has."""
        return ("main", "anneal") if self.config.method is Method.ANNEALED else ("main",)


def run(step: Step) -> Result:
    """Write the blocks that nobody has written or taken; commit when all are there."""
    config: PrepareConfig = step.config
    inventory = step.input("inventory")
    by_name = {block.name: block for block in _blocks(step, inventory)}
    blocks = list(by_name)
    check_model(config.tokenizer, step.task.pins, "tokenizer")
    check_tasks(config.tasks, step.task.pins)
    tokenizing = _tokenizing(config)
    held_feedback = (
        [(step.input("holdout"), "feedback-holdout.parquet")] if "holdout" in step.task.inputs else []
    )
    held = Block("holdout", inventory, "holdout.parquet", tuple(held_feedback))
    most = config.conditioning.max_feedback_tokens
    bands = open_bands(config, [*by_name.values()], held, lambda texts: tokenizing.cut(texts, most))
    contract = contract_of(config, bands, [*by_name.values()])
    if config.stage_type.is_chat:
        tokenizing.template.check(contract.best if contract else None)
    earlier = [step.input(role) for role in sorted(step.task.inputs) if role.startswith("earlier/")]
    tasks = Tasks({task.name: read_questions(task) for task in config.tasks}) if config.tasks else None
    recipe = BlockRecipe(config, bands, tokenizing, tasks, held_out(earlier))
    writer = step.writer()

    made_of = {block.documents.key: block.documents for block in by_name.values()}
    total = sum(int(each.summary["documents"]) for each in made_of.values())
    told = BlockCounts()
    step.reporter.update(0, total, "documents")
    for done, name in enumerate(step.ring(blocks), 1):
        written = all(writer.has(_file(split, name)) for split in recipe.splits)
        if step.take(name):
            if written:
                told.merge(BlockCounts.read(writer.local(_file("main", name))))
            else:
                files = _block(recipe, by_name[name])
                for split, data in files.items():
                    writer.add(_file(split, name), data)
                told.merge(BlockCounts.of(pa.BufferReader(files["main"])))
            step.reporter.tell(told.figures())
            step.reporter.saved()
        step.reporter.update(total * done // len(blocks), total, "documents", f"block {name}")

    names = [_file(split, name) for split in recipe.splits for name in blocks]
    missing = [name for name in names if not writer.has(name)]
    if missing:
        return Result(
            outcome=Outcome.SHARED,
            key=step.task.key,
            message=f"this worker is done; {len(missing)} of {len(names)} files are with others",
        )
    counts = _counts(writer, blocks)
    if "anneal" in recipe.splits:
        anneal = _counts(writer, blocks, "anneal")
        counts.anneal = anneal.sequences
        counts.anneal_tokens, counts.anneal_squares = anneal.tokens, anneal.squares
    _check(recipe, counts)
    warnings = _warnings(recipe, counts)
    writer.add("holdout.parquet", _holdout(recipe, held, earlier, counts))
    writer.add("conditioning.json", (contract.model_dump_json(indent=1) if contract else "null").encode())
    summary = counts.summary(len(blocks), tokenizing.vocabulary)
    summary["warnings"] = warnings
    summary["questionsTooShort"] = tasks.short if tasks else 0
    writer.commit(summary, [*names, "holdout.parquet", "conditioning.json"])
    return Result(
        outcome=Outcome.COMMITTED,
        key=step.task.key,
        message=f"{counts.tokens:,} tokens in {counts.sequences:,} sequences, "
        f"{summary['paddingPercent']} % padding{_left_out(counts, warnings)}",
    )


def _blocks(step: Step, inventory: Artifact) -> list[Block]:
    """The stage's documents in shards, each with all feedback of the arm; in a stage of rollouts the samples
    of each round, with the feedback on that round."""

    def role(start: str) -> dict[str, Artifact]:
        return {
            name.removeprefix(start): step.input(name)
            for name in sorted(step.task.inputs)
            if name.startswith(start)
        }

    feedback, rounds = role("feedback/"), role("samples/")
    found = []
    for name, documents in rounds.items() if rounds else [("", inventory)]:
        about = [feedback[name]] if name in feedback else [] if rounds else [*feedback.values()]
        for path in documents.paths:
            if path.startswith("docs-"):
                part = path.removeprefix("docs-")
                files = tuple((artifact, f"feedback-{part}") for artifact in about)
                before = f"{int(name):02d}-" if name else ""
                found.append(Block(before + part.removesuffix(".parquet"), documents, path, files))
    return sorted(found, key=lambda block: block.name)


def _tokenizing(config: PrepareConfig) -> Tokenizing:
    # Imported here: it takes a second, and is not needed where the artifact is committed already.
    from ixt_workloads.tokenizer import load_tokenizer, start_tokens

    logs.take_over()
    source = config.tokenizer
    place = source.source or source.tokenizer or ""
    folder = local_folder(place, source.revision, source.credentials_secret_ref)
    tokenizer = load_tokenizer(folder, source.chat_template)
    return Tokenizing(tokenizer, start_tokens(tokenizer))


def _file(split: str, block: str) -> str:
    return f"{split}-{block}.arrow"


def _block(recipe: BlockRecipe, block: Block) -> dict[str, bytes]:
    """The files of a block by split."""
    config = recipe.config
    docs = block.documents.file(block.file)
    rows = rows_of(docs, ["id", "source"])
    feedback = recipe.bands.of_block(block)
    levelled = prefixes_of(config, rows, feedback)
    out, counted = _left_out_of(recipe, docs, [row["id"] for row in rows])
    kept = [place for place in range(len(rows)) if place not in out]
    top = [place for place in kept if levelled[place][0] == config.conditioning.levels]
    chosen = {"main": top if config.method is Method.FILTERED else kept, "anneal": top}
    if config.method is Method.REJECTION_SAMPLING:
        right = {name for name, entry in feedback.items() if entry.right}
        # Without a verifier, what the judge puts at the top is what is accepted.
        chosen["main"] = [place for place in kept if rows[place]["id"] in right] if config.verifier else top
    levels = Counter(str(levelled[place][0]) for place in kept if levelled[place][0])
    sources = [row["source"] for row in rows]
    return {
        split: _packed(
            recipe,
            _texts(recipe, docs, set(chosen[split])),
            sources,
            levelled,
            chosen[split],
            BlockCounts(levels=levels.copy(), left_out=counted.copy()),
        )
        for split in recipe.splits
    }


def _left_out_of(recipe: BlockRecipe, docs: Path, ids: Sequence[str]) -> tuple[Set[int], Counter[str]]:
    """Places of the documents that no arm trains on, and how many for each reason."""
    counted: Counter[str] = Counter()
    out = {place for place, name in enumerate(ids) if base_id(name) in recipe.held_before}
    if out:
        counted[HELD_BEFORE] = len(out)
    if recipe.tasks:
        for place, names in recipe.tasks.contaminated(_column(docs, "text")).items():
            counted.update(f"task {name}" for name in names)
            out.add(place)
    return out, counted


def _texts(recipe: BlockRecipe, docs: Path, places: Set[int]) -> Iterator[str]:
    """The documents or conversations at these places, in order. They are never all in memory."""
    texts = _column(docs, "messages" if recipe.config.stage_type.is_chat else "text")
    return (text for place, text in enumerate(texts) if place in places)


def _column(docs: Path, name: str) -> Iterator[str]:
    """A column of a file in order, some rows at a time."""
    batches = pq.ParquetFile(docs).iter_batches(ROWS_READ, columns=[name])
    while True:
        with reading(docs):
            batch = next(batches, None)
            texts = batch.column(0).to_pylist() if batch else []
        if not texts:
            return
        yield from texts


def _packed(
    recipe: BlockRecipe,
    texts: Iterable[str],
    sources: Sequence[str],
    levelled: Sequence[tuple[int, str]],
    places: Sequence[int],
    counts: BlockCounts,
) -> bytes:
    """The file with a block's documents at `places`, whose texts are `texts`; `sources` and `levelled` are of
    all documents of the block. `counts` has what is known so far."""
    config, chat = recipe.config, recipe.config.stage_type.is_chat
    loss = config.conditioning.loss_on_feedback or LossOnFeedback.INCLUDE
    length = config.prepare.sequence_length
    prefixes = [levelled[place][1] for place in places]
    if chat:
        talks = recipe.tokenizing.conversations(texts, prefixes, loss)
        for place, why in talks.refused.items():
            counts.refused[f"dataset {sources[places[place]]}: {why}"[:LONGEST_REASON]] += 1
        counts.lost.update(talks.lost)
        whole = [places[place] for place in talks.places]
        documents, places, counts.cut = _fitted(talks.texts, whole, length)
    else:
        documents = recipe.tokenizing.documents(texts, prefixes, loss)
    kept = set(places)
    counts.documents = len(kept)
    counts.conditioned = sum(bool(levelled[place][1]) for place in kept)
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
    """Texts of conversations cut at a length, without those with nothing left to learn; how many
    conversations that concerns."""
    kept, cut = [], set()
    for document, place in zip(documents, places, strict=True):
        short = replace(document, body=document.body[:length], mask=document.mask[:length])
        learnt = bool(short.mask.any())
        if len(document.body) > length or not learnt:
            cut.add(place)
        if learnt:
            kept.append((short, place))
    return [document for document, _ in kept], [place for _, place in kept], len(cut)


def _counts(writer: ArtifactWriter, blocks: Sequence[str], split: str = "main") -> BlockCounts:
    """The sum over the blocks of a split, read from their files."""
    counts = BlockCounts()
    for name in blocks:
        counts.merge(BlockCounts.read(writer.local(_file(split, name))))
    return counts


def _check(recipe: BlockRecipe, counts: BlockCounts) -> None:
    """Raise StepError when there is nothing to train on, or the chat template refuses too much."""
    method, top = recipe.config.method, recipe.config.conditioning.levels
    refused = counts.refused.total()
    if 100 * refused > MOST_REFUSED_PERCENT * (counts.documents + refused):
        raise StepError(
            Exit.DATA,
            f"the tokenizer's chat template refuses {refused} of {counts.documents + refused} conversations, "
            f"most often of {counts.refused.most_common(1)[0][0]}",
            "leave such conversations out, or give a tokenizer whose template takes them",
        )
    if not counts.sequences and counts.left_out and not counts.cut:
        reasons = ", ".join(f"{count} {why}" for why, count in counts.left_out.most_common())
        raise StepError(
            Exit.DATA,
            f"nothing to train on: all documents are left out ({reasons})",
            "train on other documents than the tasks' and those of earlier stages, or set "
            "prepare.decontamination to Disabled",
        )
    if not counts.sequences and method is Method.REJECTION_SAMPLING:
        raise StepError(
            Exit.DATA,
            f"nothing to train on: no answer is right ({counts.levels.total():,} have a verdict)",
            "take easier prompts, more samples of each (rollout.samplesPerPrompt), or a better model",
        )
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


def _warnings(recipe: BlockRecipe, counts: BlockCounts) -> list[str]:
    """What is to be known of the levels. Raises StepError where nearly all documents have the same, and the
    gate says so; of an arm that trains on right answers alone that is no fault."""
    gates = recipe.config.gates
    found: list[str] = []
    if recipe.config.method is Method.REJECTION_SAMPLING:
        return found
    if outside := recipe.bands.outside:
        found.append(f"{outside:,} scores lie beyond the scale and count as its ends")
    (level, most), total = (
        max(counts.levels.items(), key=lambda item: item[1], default=("", 0)),
        counts.levels.total(),
    )
    if total >= CONVINCING and 100 * most > gates.max_one_score_percent * total:
        words = (
            f"{most:,} of {total:,} documents with feedback are of level {level}, more than "
            f"gates.maxOneScorePercent = {gates.max_one_score_percent}"
        )
        if Gate.ONE_SCORE not in gates.warn:
            raise StepError(
                Exit.DATA,
                words,
                "set annotate.from.scale to the scores' own scale, or conditioning.calibration to Quantile",
            )
        found.append(words)
    return found


def _left_out(counts: BlockCounts, warnings: Sequence[str]) -> str:
    """What is not trained on, what the chat template does not show and what is warned of, for the message."""
    said = [f"{count:,} documents left out: {why}" for why, count in sorted(counts.left_out.items())]
    if counts.refused:
        why = counts.refused.most_common(1)[0][0]
        said.append(f"{counts.refused.total():,} conversations refused by the chat template ({why})")
    said += [
        f"{count:,} conversations have {what} that the chat template does not show"
        for what, count in sorted(counts.lost.items())
    ]
    return "".join(f"; {words}" for words in [*said, *warnings])


def _holdout(recipe: BlockRecipe, held: Block, earlier: Sequence[Artifact], counts: BlockCounts) -> bytes:
    """The held-out documents with their levels and critiques, without those that an earlier stage has trained
    on, which are counted, and those that the template refuses. Held-out prompts are no documents."""
    rows = rows_of(held.documents.file(held.file), ["id", "text", "messages"])
    if recipe.config.stage_type is StageType.ROLLOUT:
        rows = []
    known = trained_on(earlier, {row["id"] for row in rows})
    counts.held_out_known = len(known)
    rows = [row for row in rows if row["id"] not in known]
    if recipe.config.stage_type.is_chat:
        rows = [row for row in rows if recipe.tokenizing.takes(row["messages"])]
    feedback = recipe.bands.of_block(held)

    def told(row: Mapping[str, Any]) -> dict[str, Any]:
        entry = feedback.get(row["id"])
        return {"level": entry.level, "critique": entry.said or None} if entry else {"level": 0}

    return parquet(pa.Table.from_pylist([{**row, **told(row)} for row in rows], _HELD))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Tokenizers need no torch, which would take 600 MB and several seconds: transformers goes without.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    sys.modules["torch"] = None  # type: ignore[assignment]
    main(run)
