"""What this program knows of other packages that they do not promise: a file for each of them.

It is words of their messages, names of their files, modules that they do not document. The tests of
a file say with which version it was seen, and fail in a sentence when the package has changed.

A file imports nothing of this program, and no other package than its own, so that every room may
use it. docs/adapters.md lists all of it.
"""
