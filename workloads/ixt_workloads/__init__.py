"""The steps of a run, and what the operator shares with them."""

__version__ = "0.1.0"
"""Version of ixt: operator and workloads are released together. As in pyproject.toml."""
