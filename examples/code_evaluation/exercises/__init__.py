"""Five exercises, each one command; the README has the output that is expected."""
