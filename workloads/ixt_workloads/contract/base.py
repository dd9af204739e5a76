"""The base of every model of the API and the contract, and the few field types that they share."""

from decimal import Decimal as _Decimal
from decimal import InvalidOperation
from enum import Enum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.alias_generators import to_camel


class Mark(Enum):
    """Whether a field of a step's config is part of the step's key."""

    IN_KEY = "InKey"
    NOT_IN_KEY = "NotInKey"


InKey = Mark.IN_KEY
NotInKey = Mark.NOT_IN_KEY


class Model(BaseModel):
    """A frozen value: camelCase in JSON and YAML, unknown fields refused.

    Docstrings of fields describe them in the CRDs. They are read there (generate/crd.py), not by pydantic:
    a fifth of the start of every program would go into parsing its source for them.
    """

    model_config = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        validate_default=True,
    )

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As pydantic's, but fields have their names of JSON only: those of Python are for Python."""
        return super().model_validate(obj, **{"by_name": False, **options})

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """As pydantic's, but fields have their names of JSON only."""
        return super().model_validate_json(json_data, **{"by_name": False, **options})


AUTO = "Auto"

MOST_GPUS = 64
"""GPUs of one machine, at most."""


def _gpus(value: object) -> int | str:
    if value == AUTO or (type(value) is int and 1 <= value <= MOST_GPUS):
        return value
    raise ValueError(f"must be a whole number from 1 to {MOST_GPUS}, or {AUTO}")


Gpus = Annotated[
    int | Literal["Auto"],
    PlainValidator(_gpus),
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "pattern": f"^{AUTO}$",
            "maxLength": len(AUTO),
            "minimum": 1,
            "maximum": MOST_GPUS,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A number of GPUs of a pod, or Auto: all that it has, at least 1."""


class Lenient(Model):
    """A value that another version may have written: fields that this one does not know are ignored."""

    model_config = ConfigDict(extra="ignore")


def _decimal(text: str) -> str:
    try:
        value = _Decimal(text)
    except InvalidOperation:
        raise ValueError("must be a decimal number written as a string, for example '3e-4'") from None
    if not value.is_finite() or value < 0:
        raise ValueError("must be a finite number of at least 0")
    return text


DECIMAL_PATTERN = r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$"


class DecimalMark:
    """Marks a string as a number, so that '3e-4' and '0.0003' are one value in keys."""


Decimal = Annotated[
    str, Field(pattern=DECIMAL_PATTERN, max_length=24), AfterValidator(_decimal), DecimalMark()
]
"""A number as a string: Kubernetes' API conventions forbid floats."""

NUMBER_PATTERN = DECIMAL_PATTERN.replace("^", "^-?")

Number = Annotated[str, Field(pattern=NUMBER_PATTERN, max_length=24), DecimalMark()]
"""The same of any sign."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)]
"""A DNS label, as it becomes part of names and labels of children."""

ObjectName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
    Field(min_length=1, max_length=253),
]
"""Name of a Kubernetes object: a DNS subdomain."""

Percent = Annotated[int, Field(ge=0, le=100)]

DataUri = Annotated[str, Field(pattern=r"^(s3|gs|pvc|hf|file)://[^\s]+$", min_length=6, max_length=1024)]
"""Where data or a model lies: s3://, gs://, pvc://claim/path, hf://owner/name or file:///path."""

StorageUri = Annotated[str, Field(pattern=r"^(s3|gs|pvc|file)://[^\s]+$", min_length=6, max_length=1024)]
