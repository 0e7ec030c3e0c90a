"""The ratio table and what produces it."""
