"""How cost grows with the backlog and with the workers, and where each engine saturates."""
