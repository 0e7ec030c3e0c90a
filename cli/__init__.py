"""The one command, `thermocline`. Imports everything; nothing imports it."""
