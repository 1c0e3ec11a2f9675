"""PostgreSQL: jobs in the tables of one schema, shared by every process that reaches the server."""
