"""The raw loops of SQLite: statements, one per file, and a driver over apsw."""
