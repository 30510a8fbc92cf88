"""The host side: files to uint8 batches. Imports nothing from `models` or `training`."""
