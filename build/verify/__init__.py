"""Runs what was built as pods run it: the checks, and the drivers that start programs. Compiling is elsewhere."""
