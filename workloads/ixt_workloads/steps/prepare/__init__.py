"""Prepare: makes packed training sequences of documents and feedback, for one arm."""
