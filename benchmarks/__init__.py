"""Measurements, each one command; each prints ratios measured in one run."""
