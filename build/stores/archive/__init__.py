"""An image layout in one tar archive, to be read like any store and written as a whole."""
