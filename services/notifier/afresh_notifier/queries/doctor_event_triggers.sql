SELECT t.evtname::text AS name, t.evtenabled IN ('O', 'A') AS enabled
FROM pg_catalog.pg_event_trigger AS t
