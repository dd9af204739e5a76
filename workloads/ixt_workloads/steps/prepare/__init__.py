"""Prepare: documents and feedback to packed training sequences for one arm."""
