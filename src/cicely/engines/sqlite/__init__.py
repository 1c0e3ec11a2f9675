"""The engine of one file: SQLite through apsw, shared by any number of processes of one machine."""
