-- Watch a table; where no way of capture is named it keeps the one it has.
SELECT afresh.watch(
    $1::text::regclass,
    $2::text [],
    coalesce(
        $3::text,
        (SELECT r.root_capture FROM afresh.roots AS r WHERE r.target = $1::text::regclass AND r.by_watch),
        'log'
    )
)
