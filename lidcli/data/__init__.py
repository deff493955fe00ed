"""Data sets: a registry, downloads, and loaders that check what they read."""
