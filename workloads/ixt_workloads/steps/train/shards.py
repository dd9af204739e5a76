"""torch's DCP folders without pickle: what they hold is told in metadata.json, and tensors are read with
torch's `weights_only`. Whoever may write to the storage may have placed such a folder there."""

import pickle
import re
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan
from torch.distributed.checkpoint.state_dict_loader import load as load_dcp
from torch.distributed.checkpoint.storage import WriteResult

from ixt_workloads.contract.base import Model

METADATA = "metadata.json"
MAX_METADATA_BYTES = 256 * 2**20
"""A chunk has about 200 bytes; trainings of thousands of ranks have some hundred thousand."""

_DTYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64)
}
_FILE = re.compile(r"__\d{1,7}_\d{1,7}\.distcp")

Shape = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**53)], ...], Field(max_length=16)]


class DamagedError(Exception):
    """A folder that is no checkpoint of ours, for people."""


def load(tensors: dict[str, Any], folder: Path) -> None:
    """Fill tensors, or this rank's shards of them, in place. Raises DamagedError."""
    try:
        with warnings.catch_warnings():
            # Each rank reads what it needs by itself: what DCP sends between ranks is pickle.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load_dcp(tensors, storage_reader=Reader(folder), planner=Planner(), no_dist=True)
    except (OSError, ValueError, KeyError, AssertionError, RuntimeError, pickle.PickleError,
            CheckpointException) as error:  # fmt: skip
        raise DamagedError(" ".join(str(error).split())[:300]) from None


class _Chunk(Model):
    """A part of a tensor, and where it lies."""

    offsets: Shape
    sizes: Shape
    file: Annotated[str, Field(pattern=f"^{_FILE.pattern}$")]
    """In the folder itself: no path leads out of it."""
    offset: Annotated[int, Field(ge=0, lt=2**53)]
    """Bytes."""
    length: Annotated[int, Field(ge=0, lt=2**53)]
    """Bytes."""


class _Tensor(Model):
    dtype: Annotated[str, Field(max_length=16)]
    size: Shape
    chunks: tuple[_Chunk, ...]


class _Tensors(Model):
    tensors: dict[str, _Tensor]


class Writer(FileSystemWriter):
    """Writes the shards as DCP does, and what they are as JSON."""

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Called on one rank with what all of them wrote."""
        stored = {result.index: result.storage_data for results_of in results for result in results_of}
        told = _Tensors(
            tensors={
                name: _Tensor(
                    dtype=str(tensor.properties.dtype).removeprefix("torch."),
                    size=tuple(tensor.size),
                    chunks=tuple(_chunk(name, chunk, stored) for chunk in tensor.chunks),
                )
                for name, tensor in metadata.state_dict_metadata.items()
                if isinstance(tensor, TensorStorageMetadata)
            }
        )
        (Path(self.path) / METADATA).write_text(told.model_dump_json())


class Reader(FileSystemReader):
    """Reads what `Writer` wrote, tensors alone. Raises DamagedError."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """What the folder holds."""
        file = Path(self.path) / METADATA
        try:
            if file.stat().st_size > MAX_METADATA_BYTES:
                raise DamagedError(f"{METADATA} has more than {MAX_METADATA_BYTES:,} bytes")
            told = _Tensors.model_validate_json(file.read_bytes())
            found = Metadata(
                {
                    name: TensorStorageMetadata(
                        TensorProperties(dtype=_DTYPES[tensor.dtype]),
                        torch.Size(tensor.size),
                        [
                            ChunkStorageMetadata(torch.Size(c.offsets), torch.Size(c.sizes))
                            for c in tensor.chunks
                        ],
                    )
                    for name, tensor in told.tensors.items()
                }
            )
        except (OSError, ValidationError, KeyError) as error:
            raise DamagedError(f"{METADATA} cannot be read: {str(error).partition(chr(10))[0]}") from None
        found.storage_data = {
            MetadataIndex(name, chunk.offsets): _StorageInfo(chunk.file, chunk.offset, chunk.length)
            for name, tensor in told.tensors.items()
            for chunk in tensor.chunks
        }
        return found

    def read_data(self, plan: LoadPlan, planner: Any) -> Any:
        """Read the shards of a plan. Files are regular ones: links are not followed."""
        for item in plan.items:
            file = Path(self.path) / self.storage_data[item.storage_index].relative_path
            if file.is_symlink() or not file.is_file():
                raise DamagedError(f"{file.name} is no file")
        return super().read_data(plan, planner)


class Planner(DefaultLoadPlanner):
    """Takes tensors alone: DCP reads anything else with pickle."""

    def load_bytes(self, read_item: Any, value: Any) -> None:
        """Never called for what `Reader` tells of."""
        assert read_item.type is LoadItemType.BYTE_IO
        raise DamagedError(f"{read_item.dest_index.fqn} is no tensor")


def _chunk(name: str, chunk: ChunkStorageMetadata, stored: dict[MetadataIndex, Any]) -> _Chunk:
    place: _StorageInfo = stored[MetadataIndex(name, chunk.offsets)]
    return _Chunk(
        offsets=tuple(chunk.offsets),
        sizes=tuple(chunk.sizes),
        file=place.relative_path,
        offset=place.offset,
        length=place.length,
    )
