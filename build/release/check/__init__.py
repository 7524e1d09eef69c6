"""Checks published images and manifest lists byte by byte, whoever published them; it changes nothing."""
