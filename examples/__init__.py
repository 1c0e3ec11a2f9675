"""Programs that show Cicely at work. Each is started by one command; see its README."""
