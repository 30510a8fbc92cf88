"""Runs: steps, evaluations and checkpoints, in their order."""
