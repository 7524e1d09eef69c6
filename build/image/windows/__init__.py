"""What differs in images for Windows: the form of layers, paths, and how a program is found."""
