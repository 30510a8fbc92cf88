"""One training step: the state, the optimizer and the programs."""
