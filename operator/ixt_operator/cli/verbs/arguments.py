"""Arguments that several verbs take, of `ixt` and of `kubectl ixt`. Imports nothing that takes time."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ManifestFile = Annotated[Path, typer.Argument(help="YAML or JSON file with an IXTRun.")]
RunPlace = Annotated[
    Path,
    typer.Argument(metavar="file", help="YAML or JSON file with an IXTRun, or a run's workdir."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set a field of the run, such as stages.pretrain.train.maxTokens=2000000; may be repeated.",
    ),
]
Workdir = Annotated[
    Path | None,
    typer.Option("--workdir", "-w", help="Folder with the run's state and logs. [default: .ixt/NAME]"),
]
RuntimeFile = Annotated[
    Path | None,
    typer.Option(help="File with the IXTRuntime, instead of the built-in one."),
]


class LogFormat(StrEnum):
    """How lines of logs are shown."""

    TEXT = "text"
    JSON = "json"


# --- A model that was trained, and what is done with it.

ExportWhat = Annotated[
    list[str],
    typer.Argument(
        metavar="[LANE[@STAGE]] TARGET",
        help="Lane as the run's status names it; DIR, hf://owner/name, s3://…, gs://… or pvc://…",
    ),
]
Prefix = Annotated[str, typer.Option(help="What the tokenizer asks for of itself: best, none or level=N.")]
Lane = Annotated[str, typer.Argument(metavar="[LANE[@STAGE]]", help="As for `export`.")]
Prompt = Annotated[str, typer.Option(help="Text to go on with, or question to answer.")]
Levels = Annotated[str, typer.Option(help="Levels, such as 1,5. [default: the best, and none]")]
MostTokens = Annotated[int, typer.Option(min=1, max=8192, help="Tokens of an answer at most.")]

TASKS = "names of the harness's tasks, or NAME=FOLDER, apart by commas"

Tasks = Annotated[str, typer.Option(help=f"Tasks: {TASKS}.")]
Limit = Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Items of a task at most.")]
Fewshot = Annotated[
    int | None, typer.Option(min=0, max=64, help="Solved examples. [default: as the task says]")
]
Samples = Annotated[int, typer.Option(min=1, max=64, help="Answers to each item.")]
