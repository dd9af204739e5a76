"""What the operator and the steps agree on: step configs, keys, tasks, results, progress, exit codes.

Imports pydantic and the standard library only, so that the operator never needs torch.
"""
