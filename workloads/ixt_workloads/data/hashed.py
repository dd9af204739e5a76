"""Numbers that names decide: the same on every machine, and as good as drawn at random. Pure."""

import hashlib


def place_of(text: str) -> int:
    """A place of a text among 2**64. Texts that begin with different purposes have independent ones."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
