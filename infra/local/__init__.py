"""The embedded local stack: the emulator as a child process, and what AWS does around it that it does not."""
