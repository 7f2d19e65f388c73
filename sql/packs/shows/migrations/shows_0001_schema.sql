-- The schema, and the functions that read what providers send
-- depends:

-- migrate: apply

CREATE SCHEMA shows;

COMMENT ON SCHEMA shows IS
    'The pack shows: sessions of Humanitix and Eventbrite on one page, with their money, line-up and venue';

-- What a provider sends is read when its row is written, into stored columns, and never again: so nothing that stands in
-- a payload can make a refresh fail, and a refresh need not parse a payload for its sums. None of these functions can fail,
-- whatever they are given, and none reads a table.

-- An amount is a number of dollars, or its text; or an object as Eventbrite has it, whose `value` is a whole number of cents
-- and whose `major_value` is dollars. Whatever else, a negative one and one of a billion and more are none.
CREATE FUNCTION shows.cents(amount jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(amount)
    WHEN 'number' THEN
        CASE
            WHEN amount::numeric >= 0 AND amount::numeric < 1000000000 THEN round(amount::numeric * 100)::bigint
        END
    WHEN 'string' THEN
        CASE
            WHEN amount #>> '{}' ~ '^[0-9]{1,9}([.][0-9]{1,10})?$' THEN round((amount #>> '{}')::numeric * 100)::bigint
        END
    WHEN 'object' THEN
        CASE
            WHEN amount ->> 'value' ~ '^[0-9]{1,11}$' THEN (amount ->> 'value')::bigint
            WHEN jsonb_typeof(amount -> 'value') IS DISTINCT FROM 'number'
                AND amount ->> 'major_value' ~ '^[0-9]{1,9}([.][0-9]{1,10})?$'
                THEN round((amount ->> 'major_value')::numeric * 100)::bigint
        END
END;

COMMENT ON FUNCTION shows.cents(jsonb) IS
    'An amount of a payload in cents; NULL where it is missing, negative or no amount at all. Never fails.';

CREATE FUNCTION shows.unreadable(amount jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(jsonb_typeof(amount) <> 'null' AND shows.cents(amount) IS NULL, false);

COMMENT ON FUNCTION shows.unreadable(jsonb) IS
    'Whether a payload says an amount that cannot be read: it counts as nothing, and its order as one with a problem';

CREATE FUNCTION shows.currency(code jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN upper(btrim(code #>> '{}')) ~ '^[A-Z]{3}$' THEN upper(btrim(code #>> '{}')) END;

COMMENT ON FUNCTION shows.currency(jsonb) IS
    'A currency''s three letters; NULL where a payload has none';

CREATE FUNCTION shows.dollars(cents bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (cents::numeric / 100)::numeric(20, 2);

COMMENT ON FUNCTION shows.dollars(bigint) IS
    'Cents as dollars. The only place where one becomes the other, so that no two figures differ by a rounding.';

-- Eventbrite calls an attendee who is not coming "Not Attending", and Humanitix what was begun and not paid "pending".
CREATE FUNCTION shows.is_counted(status text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(btrim(coalesce(status, ''))) NOT IN (
    'cancelled', 'canceled', 'refunded', 'pending', 'failed', 'abandoned', 'deleted', 'transferred', 'not attending'
);

COMMENT ON FUNCTION shows.is_counted(text) IS
    'Whether an order or a ticket of this status counts; one without a status does';

-- The time zone's name where PostgreSQL knows it, and UTC otherwise. It is asked when a row is written: no refresh can
-- stumble over a name.
CREATE FUNCTION shows.known_time_zone(name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
AS $function$
BEGIN
    IF name IS NULL OR btrim(name) = '' THEN
        RETURN 'UTC';
    END IF;
    PERFORM pg_catalog.timezone(name, 'epoch'::timestamptz);
    RETURN name;
EXCEPTION
    WHEN invalid_parameter_value THEN
        RETURN 'UTC';
END;
$function$;

COMMENT ON FUNCTION shows.known_time_zone(text) IS
    'The time zone''s name, or UTC where there is none of that name';

-- `discounts` is a list of objects, or one object; a ticket of Eventbrite has one `promotional_code`. What is no object,
-- or has no code, is passed over.
CREATE FUNCTION shows.discount_lines(payload jsonb) RETURNS TABLE (code text, amount_cents bigint)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT upper(btrim(line.value ->> 'code')), coalesce(shows.cents(line.value -> 'amount'), 0)
    FROM jsonb_array_elements(
        CASE jsonb_typeof(payload -> 'discounts')
            WHEN 'array' THEN payload -> 'discounts'
            WHEN 'object' THEN jsonb_build_array(payload -> 'discounts')
            ELSE '[]'::jsonb
        END
        || CASE jsonb_typeof(payload -> 'promotional_code')
            WHEN 'object' THEN jsonb_build_array(payload -> 'promotional_code')
            ELSE '[]'::jsonb
        END
    ) AS line
    WHERE btrim(line.value ->> 'code') <> '';
END;

COMMENT ON FUNCTION shows.discount_lines(jsonb) IS
    'The discount codes in a payload of an order or a ticket, in capitals, each with what it took off, in cents';

CREATE FUNCTION shows.broken_discounts(payload jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(jsonb_typeof(payload -> 'discounts') NOT IN ('array', 'object', 'null'), false)
    OR coalesce(jsonb_typeof(payload -> 'promotional_code') NOT IN ('object', 'null'), false);

COMMENT ON FUNCTION shows.broken_discounts(jsonb) IS
    'Whether the discounts in a payload are neither a list nor an object';

-- migrate: rollback

DROP FUNCTION shows.broken_discounts(jsonb);
DROP FUNCTION shows.discount_lines(jsonb);
DROP FUNCTION shows.known_time_zone(text);
DROP FUNCTION shows.is_counted(text);
DROP FUNCTION shows.dollars(bigint);
DROP FUNCTION shows.currency(jsonb);
DROP FUNCTION shows.unreadable(jsonb);
DROP FUNCTION shows.cents(jsonb);

-- Without CASCADE: what somebody else put there is named in the error, not dropped with it.
DROP SCHEMA shows;
