"""The device side: (state, batch) to (state, metrics), on a mesh of devices."""
