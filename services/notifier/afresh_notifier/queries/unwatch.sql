SELECT afresh.unwatch($1::text::regclass)
