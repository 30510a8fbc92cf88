"""The runs that come with this, a file each; the file's name is the run's name."""
