"""The step Evaluate: a trained model to scores by feedback, controllability and samples."""
