SELECT pg_catalog.set_config('afresh.sample_size', $1::text, false)
