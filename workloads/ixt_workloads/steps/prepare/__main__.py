"""The Prepare step: one arm's documents, block by block."""

import io
import os
from collections import Counter
from typing import Any

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.results import Outcome, Result
from ixt_workloads.contract.steps import LossOnFeedback, Method, PrepareConfig
from ixt_workloads.step import Step, main


def run(step: Step) -> Result:
    """Write the blocks that are not there yet; commit when all are."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from ixt_workloads.steps.prepare.blocks import Counts
    from ixt_workloads.steps.prepare.joined import contract_of, open_bands

    config: PrepareConfig = step.config
    inventory = step.input("inventory")
    blocks = sorted(path[5:10] for path in inventory.paths if path.startswith("docs-"))
    tokenizing = _tokenizer(config)
    roles = sorted(role for role in step.task.inputs if role.startswith("feedback/"))
    bands, held = open_bands(
        config,
        [step.input(role) for role in roles],
        step.input("holdout") if "holdout" in step.task.inputs else None,
        blocks,
        lambda texts: tokenizing.cut(texts, config.conditioning.max_feedback_tokens),
    )
    contract = contract_of(config, bands, blocks)
    writer = step.writer()
    splits = ("main", "anneal") if config.method is Method.ANNEALED else ("main",)
    total = int(inventory.summary["documents"])
    done = 0
    first = step.index * len(blocks) // step.task.indexes
    for name in (*blocks[first:], *blocks[:first]):
        if not all(writer.has(f"{split}-{name}.arrow") for split in splits):
            for split, data in _block(config, inventory, bands, tokenizing, name).items():
                writer.add(f"{split}-{name}.arrow", data)
        done += total // len(blocks)
        step.reporter.update(min(done, total), total, "documents", f"block {name}")
    files = [f"{split}-{name}.arrow" for split in splits for name in blocks]
    counts = Counts()
    for name in blocks:
        counts.add(Counts.read(step.store.open_local(f"artifacts/{step.task.key}/main-{name}.arrow")))
    if config.method is Method.ANNEALED:
        for name in blocks:
            path = step.store.open_local(f"artifacts/{step.task.key}/anneal-{name}.arrow")
            counts.anneal += Counts.read(path).sequences
    _check(config, counts)
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


def _tokenizer(config: PrepareConfig) -> Any:
    from ixt_workloads.data.locate import local_folder
    from ixt_workloads.models import load_tokenizer, start_tokens
    from ixt_workloads.steps.prepare.joined import is_chat
    from ixt_workloads.steps.prepare.tokens import Tokenizing

    source = config.tokenizer
    folder = local_folder(source.source or source.tokenizer or "", source.revision)
    tokenizer = load_tokenizer(folder)
    if is_chat(config) and not tokenizer.chat_template:
        raise StepError(
            Exit.CONFIG, f"the tokenizer in {folder} has no chat template", "an SFT stage needs one: add it"
        )
    return Tokenizing(tokenizer, start_tokens(tokenizer))


def _block(config: PrepareConfig, inventory: Any, bands: Any, tokenizing: Any, name: str) -> dict[str, bytes]:
    """The files of a block by split."""
    import pyarrow.parquet as pq

    from ixt_workloads.steps.prepare.joined import is_chat, prefixes_of

    columns = ["id", "messages"] if is_chat(config) else ["id", "text"]
    rows = pq.read_table(inventory.file(f"docs-{name}.parquet"), columns=columns).to_pylist()
    feedback = bands.of_block(name)
    levelled = prefixes_of(config, rows, feedback)
    top = [place for place, (level, _) in enumerate(levelled) if level == config.conditioning.levels]
    chosen = {"main": list(range(len(rows)))}
    if config.method is Method.FILTERED:
        chosen["main"] = top
    if config.method is Method.ANNEALED:
        chosen["anneal"] = top
    seen = Counter(str(level) for level, _ in levelled if level)
    return {
        split: _file(config, tokenizing, rows, levelled, places, seen) for split, places in chosen.items()
    }


def _file(
    config: PrepareConfig,
    tokenizing: Any,
    rows: list[dict[str, Any]],
    levelled: list[tuple[int, str]],
    places: list[int],
    seen: Counter[str],
) -> bytes:
    from ixt_workloads.steps.prepare.blocks import Counts, packed_file
    from ixt_workloads.steps.prepare.joined import CONDITIONED, is_chat
    from ixt_workloads.steps.prepare.packing import SMALLEST_CUT

    loss = config.conditioning.loss_on_feedback or LossOnFeedback.INCLUDE
    length = config.prepare.sequence_length
    chat = is_chat(config)
    prefixes = [levelled[place][1] for place in places]
    counts = Counts(
        documents=len(places),
        conditioned=sum(1 for prefix in prefixes if prefix),
        levels=seen,
    )
    if chat:
        documents = tokenizing.conversations([rows[place] for place in places], prefixes, loss)
        documents, places, counts.cut = _fitted(documents, places, length)
    else:
        documents = tokenizing.documents([rows[place]["text"] for place in places], prefixes, loss)
        longest = max((len(document.prefix) for document in documents), default=0)
        if longest + SMALLEST_CUT > length:
            raise StepError(
                Exit.CONFIG,
                f"feedback of {longest} tokens leaves no room in sequences of {length}",
                "lower conditioning.maxFeedbackTokens or raise prepare.sequenceLength",
            )
    conditioned = config.method in CONDITIONED
    return packed_file(
        documents,
        [(place, levelled[place][0] if conditioned else 0) for place in places],
        length,
        tokenizing.vocabulary,
        pad=tokenizing.pad,
        cut=not chat,
        counts=counts,
    )


def _fitted(documents: list[Any], places: list[int], length: int) -> tuple[list[Any], list[int], int]:
    """Conversations cut at a length; without those that have nothing to learn left."""
    from dataclasses import replace

    kept, cut = [], 0
    for document, place in zip(documents, places, strict=True):
        short = document
        if len(document.body) > length:
            cut += 1
            short = replace(document, body=document.body[:length], mask=document.mask[:length])
        if short.mask.any():
            kept.append((short, place))
    return [document for document, _ in kept], [place for _, place in kept], cut


def _check(config: PrepareConfig, counts: Any) -> None:
    levels = ", ".join(f"{count} of level {level}" for level, count in sorted(counts.levels.items()))
    top = config.conditioning.levels
    if not counts.sequences or (config.method is Method.ANNEALED and not counts.anneal):
        raise StepError(
            Exit.DATA,
            f"{config.method} finds no document of the top level {top}: annotated are {levels or 'none'}",
            "annotate more documents (samplePercent), or use conditioning.calibration Quantile",
        )


def _holdout(inventory: Any, held: Any) -> bytes:
    """The held-out documents with their levels and critiques."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_table(inventory.file("holdout.parquet"), columns=["id", "text", "messages"]).to_pylist()
    feedback = held.of_block("holdout") if held.artifacts else {}
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("level", pa.int8()),
            ("text", pa.large_string()),
            ("messages", pa.large_string()),
            ("critique", pa.large_string()),
        ]
    )
    found = [
        {
            **row,
            "level": feedback[row["id"]].level if row["id"] in feedback else 0,
            "critique": feedback[row["id"]].critique if row["id"] in feedback else None,
        }
        for row in rows
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(found, schema), sink, compression="zstd")
    return sink.getvalue()


if __name__ == "__main__":
    main(run)
