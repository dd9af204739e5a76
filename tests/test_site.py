"""The docs site: all pages are in it, nothing is loaded from elsewhere, and what is broken is a warning, of
which `make docs` makes an error."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ELSEWHERE = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks", "charts", "examples", "mkdocs.yml")
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//")


def test_the_site_is_whole_and_what_is_broken_is_told(tmp_path: Path) -> None:
    """The site with one page more, in which everything is wrong: nothing else is told."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ELSEWHERE:
        (tmp_path / name).symlink_to(ROOT / name)
    wrong = "# Wrong\n[gone](gone.md), [no part](index.md#gone), `docs/away.md`, [out](../README.md)\n"
    (tmp_path / "docs" / "wrong.md").write_text(wrong)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"],
        cwd=tmp_path,
        env={**os.environ, **NO_NETWORK, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(told) == len(done.stderr.split("WARNING")) - 1
    for broken in ("  - wrong.md", "'gone.md'", "'away.md'", "'../README.md'"):
        assert broken in done.stderr
    assert all("wrong.md" in line or "not included in the" in line for line in told), done.stderr
    pages = {path: path.read_text() for path in (tmp_path / "site").rglob("*.html")}
    assert [path for path, text in pages.items() if LOADED.search(text)] == []
    links = re.findall(r'<a href="[^"]*">Working on ixt</a>', pages[tmp_path / "site" / "concepts.html"])
    assert links, "a file that a text names is a link"
