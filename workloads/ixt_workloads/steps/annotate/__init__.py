"""Annotate: a judge reads documents and writes feedback."""
