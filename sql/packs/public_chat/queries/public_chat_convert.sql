-- $1 cookieId, $2 guestName, $3 guestEmail, $4 guestPhone, $5 unitId, $6 checkIn, $7 checkOut, $8 adults, $9 children
SELECT *
FROM public.convert_prospective_session(
    $1::text, $2::text, $3::text, $4::text, $5::uuid, $6::date, $7::date, $8::integer, $9::integer
)
