"""What `use` prints: settings that make nodes take the published image, and nothing that a key has not signed."""
