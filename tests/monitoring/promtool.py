"""promtool of the pinned Prometheus."""

import subprocess
from pathlib import Path

import pytest
from cluster import binaries


def promtool(*arguments: str | Path, text: str = "") -> str:
    """What promtool prints when it is given this text. Fails where it finds fault, and skips the test where
    it is not built."""
    program = binaries.find("promtool")
    if program is None:
        pytest.skip("promtool is not built: make test-control-plane does")
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
