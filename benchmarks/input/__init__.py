"""The input pipeline next to the published one."""
