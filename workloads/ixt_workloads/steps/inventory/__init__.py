"""Inventory: pins what a stage reads, lays its documents out, says which of its steps are committed."""
