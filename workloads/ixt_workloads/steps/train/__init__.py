"""Train: trains a model on packed sequences and exports a model folder."""
