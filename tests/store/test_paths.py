import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_workloads.store.base import check_path
from ixt_workloads.store.errors import InvalidPath

segments = st.text("abcXYZ019._=+@,-", min_size=1, max_size=20).filter(lambda text: text not in (".", ".."))


@given(st.lists(segments, min_size=1, max_size=8))
def test_ordinary_paths_pass_unchanged(parts: list[str]) -> None:
    assert check_path("/".join(parts)) == "/".join(parts)


@given(
    st.lists(
        st.one_of(segments, st.sampled_from([".", "..", "", "a b", "%2e%2e", "a\\b", "ä", "\n"]), st.text())
    )
)
def test_whatever_passes_stays_below_the_root(parts: list[str]) -> None:
    path = "/".join(parts)
    try:
        check_path(path)
    except InvalidPath as error:
        assert "; use relative segments" in str(error)
    else:
        assert posixpath.normpath(posixpath.join("/top", path)) == f"/top/{path}"
        assert path.isascii()
        assert path.isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/..",
        "../a",
        "a/./b",
        "a\n",
        "~",
        "x" * 201,
        "a/" * 400 + "a",
    ],
)
def test_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        check_path(path)
