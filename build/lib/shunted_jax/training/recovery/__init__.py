"""Going on after an interruption: what is saved, and how it is known to be whole."""
