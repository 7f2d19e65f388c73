SELECT afresh.watch($1::oid::regclass, $2::text[], $3::text)
