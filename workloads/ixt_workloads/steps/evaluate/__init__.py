"""Evaluate: scores a trained model by feedback, measures its controllability, lets it write samples."""
