SELECT afresh.watch($1::text::regclass, $2::text[])
