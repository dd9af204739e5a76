"""What `ixt init` asks of data and models, and what a look at them finds."""

from ixt_workloads.contract.base import Model


class LookQuestion(Model):
    """What to look at."""

    data: str
    model: str
    judge: str | None = None


class LookedData(Model):
    """What the first documents of a dataset look like."""

    text_field: str | None = None
    """Field with the text; None for text files."""
    messages_field: str | None = None
    """Field with conversations."""
    score_fields: tuple[str, ...] = ()
    """Fields with a number that may be a score, the likeliest first."""
    critique_field: str | None = None
    tokens: int = 0
    """Of all documents, about: a quarter of their bytes."""


class LookedModel(Model):
    """What a model's folder says."""

    weights: bool
    """It has weights, not only a configuration."""
    context: int | None = None
    """Most tokens of a sequence."""
    chat: bool | None = None
    """Its tokenizer has a chat template; None where nobody can tell yet."""
    reasoning_parser: str | None = None
    """vLLM's, of a model that thinks before it answers."""


class Looked(Model):
    """The answer; None for what could not be looked at from here."""

    data: LookedData | None = None
    model: LookedModel | None = None
    judge: LookedModel | None = None
