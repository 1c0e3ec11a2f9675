"""For hands: one file per command. Commands format and call; they decide nothing."""
