"""Programs compiled for TPUs without one."""
