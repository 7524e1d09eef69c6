"""Where images live: layout, archive and registry, behind one protocol. What is stored, and when, is decided above."""
