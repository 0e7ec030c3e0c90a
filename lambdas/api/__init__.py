"""The HTTP API: what every route shares, and the routes, a module for each thing they are about."""

VERSION = "0.1.0"
"""That of the project, which a function's package has no metadata to ask for."""
