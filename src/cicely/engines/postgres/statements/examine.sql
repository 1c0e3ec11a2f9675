-- What `doctor` asks the server. Reads statistics and settings only; takes no lock on a table.

-- :name settings
SELECT current_setting('server_version'), current_setting('fsync'), current_setting('full_page_writes'),
       current_setting('synchronous_commit'), current_setting('autovacuum'),
       current_setting('max_connections')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int,
       pg_is_in_recovery()

-- :name sizes
SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint, coalesce(sum(n_live_tup), 0)::bigint,
       coalesce(sum(n_dead_tup), 0)::bigint
FROM pg_stat_user_tables WHERE schemaname = current_schema()

-- :name snapshots
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''),
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
       greatest(age(a.backend_xmin), age(a.backend_xid))::bigint
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
  AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
  AND (a.datname = current_database() OR a.backend_type = 'walsender')
ORDER BY a.xact_start LIMIT 1

-- :name prepared
SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - prepared)), 0)::float8
FROM pg_prepared_xacts WHERE database = current_database()

-- :name slots
SELECT slot_name::text, active, greatest(age(xmin), age(catalog_xmin))::bigint
FROM pg_replication_slots WHERE xmin IS NOT NULL ORDER BY age(xmin) DESC LIMIT 1

-- :name backend
SELECT pg_backend_pid()
