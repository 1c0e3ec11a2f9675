-- From schema 5 to 6: the rank of a job whose parents have let it go. Runs under the write lock.

ALTER TABLE node ADD COLUMN rank INTEGER;
