"""Runs programs for Windows under wine: what such a program is checked for, and the folder that wine needs."""
