"""The raw loops of Redis: scripts, one per file, and a driver over hiredis."""
