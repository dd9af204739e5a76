"""What the docs site does beside mkdocs' own: pages that lie elsewhere in the repository, folders in the nav,
and links where a text names a file by its path, as people read it in an editor."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ELSEWHERE = {
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "chart.md": "charts/ixt-operator/README.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages of the site by the file that is their text."""
PAGES = {file: page for page, file in ELSEWHERE.items()}
NAMED = re.compile(r"(?<!\[)`((?:docs|charts|benchmarks)/[\w./-]+\.md|[A-Z]+\.md)`")


def on_config(config: MkDocsConfig) -> None:
    """Write out the folders of the nav, in the order of their files' names."""
    config.nav = _written_out(config.nav, Path(config.docs_dir))


def _written_out(nav: Any, docs: Path) -> Any:
    if isinstance(nav, str) and nav.endswith("/*"):
        return [path.relative_to(docs).as_posix() for path in sorted(docs.glob(f"{nav}.md"))]
    if isinstance(nav, dict):
        return {title: _written_out(item, docs) for title, item in nav.items()}
    return [_written_out(item, docs) for item in nav] if isinstance(nav, list) else nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    root = Path(config.config_file_path).parent
    for page, file in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(root / file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a file's name into a link to its page, under the page's title; without one, a broken link."""

    def link(found: re.Match[str]) -> str:
        target = PAGES.get(found[1], found[1].removeprefix("docs/"))
        if target in (found[1], page.file.src_uri):
            return found[0]
        file = files.get_file_from_path(target)
        title = file.content_string.partition("\n")[0].removeprefix("# ") if file else target
        return f"[{title}]({get_relative_url(target, page.file.src_uri)})"

    return NAMED.sub(link, markdown)
