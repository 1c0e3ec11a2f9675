"""The raw loops of PostgreSQL: statements, one per file, and a driver over psycopg."""
