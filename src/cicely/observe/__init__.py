"""What happened: read from the engine, and shown to people and programs."""
