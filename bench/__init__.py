"""Timings, each with one command. The tests measure none."""
