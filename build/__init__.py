"""The pause image toolchain. `pipeline` tells the story; `tasks.py` at the top is its command line."""
