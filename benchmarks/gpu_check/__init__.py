"""What a few minutes of a GPU can tell of this project."""
