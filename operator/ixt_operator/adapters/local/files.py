"""Files of a run's state, which a crash leaves whole."""

from pathlib import Path


def write(path: Path, text: str) -> None:
    """Replace a file in one step, so that a crash leaves the old or the new one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
