-- The least that a durable queue can keep: three narrow tables, and one that nobody looks at.
CREATE TABLE ready (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE run (id INTEGER PRIMARY KEY, token BLOB NOT NULL, session INTEGER NOT NULL);
CREATE TABLE done (id INTEGER PRIMARY KEY, result BLOB NOT NULL, ended_at REAL NOT NULL);
CREATE TABLE scheduled (due_at REAL NOT NULL, id INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (due_at, id)) WITHOUT ROWID;
