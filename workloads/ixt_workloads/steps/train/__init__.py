"""The step Train: prepared sequences to a model folder."""
