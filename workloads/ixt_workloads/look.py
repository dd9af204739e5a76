"""A look at data and models for a first manifest: `ixt init`. Of data on this machine the first documents
are read, of models the configuration."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.looked import Looked, LookedData, LookedModel, LookQuestion
from ixt_workloads.contract.settings import DataFormat, Dataset
from ixt_workloads.data.folders import context_of, has_chat_template
from ixt_workloads.data.locate import local_config
from ixt_workloads.steps.inventory.files import SourceFile, files_of
from ixt_workloads.steps.inventory.rows import Malformed, rows

DOCUMENTS = 200
"""Documents that are looked at."""
LARGEST = 2**30
"""Bytes of a file that is read in one piece, at most: of a larger one nothing is looked at."""
BYTES_A_TOKEN = 4

TEXTS = ("text", "content", "document", "body", "code")
CRITIQUES = ("critique", "feedback", "rationale", "justification", "comment")
SCORES = ("score", "quality", "rating", "grade", "reward")

Row = Mapping[str, Any]


def look(question: LookQuestion) -> Looked:
    """Look at what lies on this machine, and at the configuration of models elsewhere if they can be reached.

    Raises StepError for what ought to be here and is not, or cannot be read.
    """
    return Looked(
        data=_data(question.data) if question.data.startswith("file://") else None,
        model=_model(question.model),
        judge=_model(question.judge) if question.judge else None,
    )


def _data(uri: str) -> LookedData:
    dataset = Dataset(name="data", uri=uri)
    found = files_of(dataset).read
    size = sum(file.path.stat().st_size for file in found)
    tokens = size // BYTES_A_TOKEN
    if all(file.format is DataFormat.TEXT for file in found):
        return LookedData(tokens=tokens)
    file = next(file for file in found if file.format is not DataFormat.TEXT)
    try:
        first = [row for _, row in islice(_rows(file), DOCUMENTS)]
    except Malformed as wrong:
        raise StepError(Exit.DATA, f"{file.path}, {wrong.place}: {wrong.problem}", wrong.hint) from None
    except (OSError, EOFError, pa.ArrowException) as error:
        raise StepError(
            Exit.DATA, f"{file.path} cannot be read: {error}", "see whether it is whole"
        ) from None
    if not first:
        raise StepError(Exit.DATA, f"{file.path} has no document", "name data that has some")
    fields = [*dict.fromkeys(name for row in first for name in row)]
    texts = [name for name in fields if _all(first, name, str)]
    messages = next((name for name in fields if _is_chat(first, name)), None)
    text = next((name for name in TEXTS if name in texts), None)
    critique = next((name for name in texts if any(word in name.lower() for word in CRITIQUES)), None)
    if text is None and texts:
        text = max(texts, key=lambda name: fmean(len(row.get(name) or "") for row in first))
    if text is None and messages is None:
        raise StepError(
            Exit.DATA,
            f"no field of {file.path} holds texts or conversations; it has {', '.join(fields) or 'none'}",
            "name data with a field of texts, or with lists of {role, content}",
        )
    written = file.format is DataFormat.CSV
    return LookedData(
        text_field=text,
        messages_field=messages,
        score_fields=tuple(_scores(first, fields, written=written)),
        critique_field=critique if critique != text else None,
        tokens=tokens * _unpacked(found),
    )


def _unpacked(found: Sequence[SourceFile]) -> int:
    """About how much longer the texts are than their files."""
    packed = all(file.most_bytes > file.path.stat().st_size for file in found)
    return 3 if packed else 1


def _rows(file: SourceFile) -> Iterator[tuple[str, dict[str, Any]]]:
    names: list[str] = []
    match file.format:
        case DataFormat.PARQUET:
            names = pq.read_schema(file.path).names
        case DataFormat.ARROW:
            with pa.OSFile(str(file.path)) as source:
                try:
                    names = pa.ipc.open_file(source).schema.names
                except pa.ArrowInvalid:
                    source.seek(0)
                    names = pa.ipc.open_stream(source).schema.names
        case DataFormat.JSON if file.path.stat().st_size > LARGEST:
            raise Malformed("", "is too large to be looked at", "write one object a line, as .jsonl")
    return rows(file.format, file.path, names, [], Counter())


def _all(found: Sequence[Row], name: str, kind: type) -> bool:
    values = [row[name] for row in found if row.get(name) is not None]
    return bool(values) and all(isinstance(value, kind) for value in values)


def _is_chat(found: Sequence[Row], name: str) -> bool:
    """Whether a field holds lists of turns."""
    values = [row[name] for row in found if row.get(name)]
    return bool(values) and all(
        isinstance(value, list)
        and all(isinstance(turn, Mapping) and {"role", "content"} <= turn.keys() for turn in value)
        for value in values
    )


def _scores(found: Sequence[Row], fields: Sequence[str], *, written: bool) -> list[str]:
    """Fields with numbers whose name is a score's first, then others of which most differ from the next."""
    numbers = [name for name in fields if _numeric(found, name, written=written)]
    named = [name for name in numbers if any(word in name.lower() for word in SCORES)]
    return [*named, *(name for name in numbers if name not in named)]


def _numeric(found: Sequence[Row], name: str, *, written: bool) -> bool:
    values = [row[name] for row in found if row.get(name) not in (None, "")]
    try:
        numbers = [float(value) for value in values if written or not isinstance(value, bool | str)]
    except (TypeError, ValueError):
        return False
    return bool(values) and len(numbers) == len(values)


def _model(uri: str) -> LookedModel | None:
    try:
        folder = local_config(uri)
        config = json.loads((folder / "config.json").read_bytes())
    except (StepError, OSError, ValueError) as error:
        if not uri.startswith("file://"):
            return None
        told = error.message if isinstance(error, StepError) else f"{uri}: no config.json that can be read"
        raise StepError(Exit.NO_INPUT, told, "name the folder that has the model's config.json") from None
    here = uri.startswith("file://")
    config = {**config, **(config.get("text_config") or {})}
    parser = "qwen3" if config.get("model_type", "").startswith("qwen3") else "deepseek_r1"
    return LookedModel(
        weights=not here or any(folder.glob("*.safetensors")),
        context=context_of(config),
        chat=has_chat_template(folder) if here else None,
        reasoning_parser=parser if here and _thinks(folder) else None,
    )


def _thinks(folder: Path) -> bool:
    """Whether a tokenizer has the tokens that reasoning stands between."""
    try:
        return b"</think>" in (folder / "tokenizer.json").read_bytes()
    except OSError:
        return False
