"""Reads what users type and writes what they read: options, progress, results, CI files. Decides nothing."""
