"""What a release costs, how that grows, and what pause costs a node, each with one command. The tests measure none."""
