"""Documents of datasets, one by one, whatever their files look like."""

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Self

from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import DataFormat, Dataset, ExistingFeedback
from ixt_workloads.data import memory
from ixt_workloads.data.chat import Unusable, conversation_of, given
from ixt_workloads.data.locate import unreadable
from ixt_workloads.data.prompts import prompt_of
from ixt_workloads.steps.inventory.files import SourceFile, shown
from ixt_workloads.steps.inventory.rows import MAX_TEXT_BYTES, Malformed, rows

TOOLS = "tools"
"""Field of a conversation's tools, beside its turns, as OpenAI's format has it."""


class Prompts(NamedTuple):
    """That rows are prompts."""

    needs_reference: bool
    """One without a reference answer is of no use."""

    @classmethod
    def of(cls, config: InventoryConfig) -> Self | None:
        """What an Inventory takes its rows for; None for documents."""
        needs = config.verifier is not None and config.verifier.needs_reference
        return cls(needs) if config.rollout else None


class Raw(NamedTuple):
    """One document as it was found."""

    source: str
    text: str
    messages: str | None
    score: float | None
    critique: str | None
    answer: str | None = None
    """Of a prompt: its reference answer as JSON, as is what else its row has, `extra`."""
    extra: str | None = None
    place: str = ""
    """Where it was found, for messages: file and line, or row."""


def documents(
    dataset: Dataset,
    file: SourceFile,
    existing: ExistingFeedback | None,
    dropped: Counter[str],
    prompts: Prompts | None = None,
) -> Iterator[Raw]:
    """The documents of a file, or its `prompts`. What is empty, too long or not UTF-8 is passed over and
    counted.

    Raises StepError naming the file and the line, or the row, of what is malformed.
    """
    import pyarrow as pa

    field = dataset.prompt_field if prompts else dataset.messages_field or dataset.text_field
    optional: list[str] | None = None if prompts else [TOOLS] if dataset.messages_field else []
    if existing and optional is not None:
        # Files of one dataset need not all have them.
        optional += filter(None, (existing.score_field, existing.critique_field))
    named = f"dataset {dataset.name}: {shown(file.path)}"
    place = ""
    try:
        for place, row in rows(file.format, file.path, [field], optional, dropped):
            try:
                if prompts:
                    raw = _prompt(dataset, row, prompts)
                else:
                    raw = _document(dataset, existing, row, file.format)
            except Unusable as unusable:
                dropped[str(unusable)] += 1
                continue
            except ValueError as error:
                raise StepError(Exit.DATA, f"{named}, {place}: {error}", _hint(row)) from None
            reason = _unusable(raw)
            if reason:
                dropped[reason] += 1
            else:
                yield raw._replace(place=f"{file.name}, {place}")
    except Malformed as wrong:
        where = f"{named}, {wrong.place}: " if wrong.place else f"{named} "
        raise StepError(Exit.DATA, f"{where}{wrong.problem}", wrong.hint) from None
    except MemoryError:
        raise StepError(
            Exit.DATA,
            f"{named}, after {place or 'its start'}: it takes more than {memory.MOST_BYTES >> 30} GiB of "
            "memory to read",
            "a small file that becomes so much is damaged or hostile: leave it out, or write smaller rows",
        ) from None
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise unreadable(f"{named}, after {place}," if place else named, error) from None


def _prompt(dataset: Dataset, row: Mapping[str, Any], prompts: Prompts) -> Raw:
    """A row as a prompt. Raises ValueError saying which field is wrong, Unusable for what cannot be asked."""
    found = prompt_of(dataset, row, needs_reference=prompts.needs_reference)
    talk = found.conversation
    text, told = talk.as_text(), (found.answer_json(), found.extra_json())
    return Raw(dataset.name, text, talk.to_json(), None, None, *told)


def _document(
    dataset: Dataset, existing: ExistingFeedback | None, row: Mapping[str, Any], form: DataFormat
) -> Raw:
    """A row of a file of this format as a document. Raises ValueError saying which field is wrong, Unusable
    for a conversation that cannot be learnt from."""
    field = dataset.messages_field or dataset.text_field
    if field not in row:
        raise ValueError(f"has no field {field!r}")
    messages = None
    if dataset.messages_field:
        try:
            turns = given(row[field]) if form in (DataFormat.PARQUET, DataFormat.ARROW) else row[field]
            conversation = conversation_of(turns, row.get(TOOLS))
        except ValueError as error:
            raise ValueError(f"field {field!r} {error}") from None
        messages, text = conversation.to_json(), conversation.as_text()
    else:
        text = row[field] if row[field] is not None else ""
        if not isinstance(text, str):
            raise ValueError(f"field {field!r} must be a text, is {type(text).__name__}")
    score, critique = None, None
    if existing:
        score = _number(row, existing.score_field, written=form is DataFormat.CSV)
        critique = row.get(existing.critique_field) if existing.critique_field else None
        if critique is not None and not isinstance(critique, str):
            raise ValueError(
                f"field {existing.critique_field!r} must be a text, is {type(critique).__name__}"
            )
    return Raw(dataset.name, text, messages, score, critique)


def _number(row: Mapping[str, Any], field: str, *, written: bool) -> float | None:
    """A score, None where there is none or it is not finite. Raises ValueError for what is no number."""
    value = row.get(field)
    if value is None or (written and not value.strip()):
        return None
    if written:
        try:
            value = float(str(value))
        except ValueError:
            raise ValueError(f"field {field!r} must be a number, is {str(value)[:40]!r}") from None
    # bool is a subclass of int.
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"field {field!r} must be a number, is {type(value).__name__}")  # noqa: TRY004
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _unusable(raw: Raw) -> str | None:
    if not raw.text.strip():
        return "empty"
    try:
        size = len(raw.text.encode())
        beside = (raw.critique or "", raw.messages or "", raw.answer or "", raw.extra or "")
        told = len("".join(beside).encode())
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can escape.
        return "notUtf8"
    return "tooLong" if max(size, told if raw.extra else 0) > MAX_TEXT_BYTES else None


def _hint(row: Mapping[str, Any]) -> str:
    fields = ", ".join(map(repr, list(row)[:10])) or "none"
    return f"its fields are {fields}: name the right one in the manifest, or repair the data"
