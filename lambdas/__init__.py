"""The doors: one Lambda handler per file, each a few lines around one use case."""
