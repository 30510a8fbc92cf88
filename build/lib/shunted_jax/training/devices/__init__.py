"""Many devices and processes as one: mesh, transfers, start and end."""
