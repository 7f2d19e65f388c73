SELECT coalesce(array_agg(p.pubname::text ORDER BY p.pubname), '{}') FROM pg_publication AS p WHERE p.puballtables
