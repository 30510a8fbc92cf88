"""What benchmarks of programs for accelerators that are not there have in common."""
