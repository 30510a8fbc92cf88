"""Programs compiled for a GPU without one."""
