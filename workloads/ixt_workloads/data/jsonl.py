"""Lines of jsonl files."""

import json
from typing import Any


def parsed(line: bytes) -> Any:
    """The JSON of a line. Raises UnicodeDecodeError, or ValueError saying what is malformed where."""
    try:
        return json.loads(line.rstrip(b"\r\n"))
    except json.JSONDecodeError as error:
        problem = error.msg.removesuffix(" at")
        raise ValueError(f"malformed JSON: {problem} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("malformed JSON: nested too deeply") from None
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise ValueError(f"malformed JSON: {error}") from None
