"""The HTTP API: what every route shares, and the routes, a module for each thing they are about."""
