"""What a hostile tenant puts into ConfigMaps and runs."""

GOOD = "instructions: Judge.\nidealCritique: Perfect.\nworstCritique: Worthless.\n"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdef", "bcdefg", strict=True)
)
BRACKETS = "[" * 65_000
SEXAGESIMAL = f"{GOOD}minScore: {':'.join(['59'] * 20_000)}\n"
LONG = GOOD + "#" * 900_000
DEEP = "<deep>"
"""Stands for a value that is nested deeper than Python's own JSON can write."""


def wide(values: int) -> str:
    """A JSON text of so many values, each of three bytes that become a hundred in memory."""
    return f"[{','.join(['[]'] * values)}]"


def deepened(text: str, levels: int = 3000) -> str:
    """A JSON text with such a value in place of DEEP."""
    return text.replace(f'"{DEEP}"', '{"a":[' * (levels // 2) + "1" + "]}" * (levels // 2))
