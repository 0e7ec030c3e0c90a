"""The library: what a reading is, how it is kept, how it is found. Imports no other folder."""
