"""Works on any reference, whoever published it: copies, lists, moves and compares; the image table plays no part."""
