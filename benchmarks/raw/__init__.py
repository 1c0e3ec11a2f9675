"""The raw loops: fixed statements per engine, one per file, and drivers that are the same for all."""
