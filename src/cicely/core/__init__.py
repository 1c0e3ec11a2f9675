"""Values and rules: no I/O, no threads, no clock of its own."""
