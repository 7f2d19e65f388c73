-- What a text asks for in a unit, in English and in Spanish: read from messages and from descriptions alike
-- depends: public_chat_0002_houses

-- migrate: apply

-- Both kinds of text are first made plain: composed (where the database is in UTF-8), in small letters without accents,
-- typographic dashes and quotes replaced, and all white space one blank. `lower` works letter by letter on ASCII, so that
-- no locale's rules (the Turkish i) come in between.
CREATE FUNCTION public.public_chat_plain(message text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT btrim(regexp_replace(
        translate(
            lower(
                (CASE WHEN getdatabaseencoding() = 'UTF8' THEN normalize(message, NFKC) ELSE message END) COLLATE "C"
            ),
            'áàâäãåÁÀÂÄÃÅéèêëÉÈÊËíìîïÍÌÎÏóòôöõÓÒÔÖÕúùûüÚÙÛÜñÑçÇ–—−‐‑’‘´`“”«»¿¡',
            'aaaaaaaaaaaaeeeeeeeeiiiiiiiioooooooooouuuuuuuunncc-----''''''''""""  '
        ),
        '\s+', ' ', 'g'
    ))
$$;

COMMENT ON FUNCTION public.public_chat_plain(text) IS
    'A text in small ASCII letters where it can be, with one blank for any white space; what the extraction reads';

-- The vocabulary, once. The words are regular expressions over plain text.
CREATE FUNCTION public.public_chat_vocabulary() RETURNS TABLE (preference text, words text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    VALUES
        ('sea_view', '(?:sea|ocean)[ -]?(?:front )?(?:views?|facing)|(?:view|look)\w* (?:of|over|to|onto|at|out to) the (?:sea|ocean)|vistas? (?:frontal(?:es)? )?(?:hacia |sobre |a|de)? ?(?:e?l )?(?:mar|oceano)|(?:mirando|frente) al (?:mar|oceano)|overlook\w* the (?:sea|ocean)'),
        ('mountain_view', 'mountain[ -]?views?|views? (?:of|over|to) the (?:mountains?|hills?|sierra)|vistas? (?:a |de )?(?:las? )?(?:montanas?|sierra)'),
        ('garden', 'gardens?|jardin(?:es)?'),
        ('pool', '(?:swimming )?pools?|piscinas?|albercas?'),
        ('beach', 'beach(?:front|side)?|playas?'),
        ('breakfast', 'breakfasts?|desayunos?'),
        ('wifi', 'wi-?fi|internet'),
        ('kitchen', 'kitchen(?:ette)?s?|cocinas?|cocineta'),
        ('parking', 'parking|car park|garage|aparcamiento|estacionamiento|parqueadero|parking|garaje|cochera'),
        ('air_conditioning', 'air[ -]?con(?:ditioning|ditioned|ditioner)?|a/c|aire acondicionado'),
        ('heating', 'heating|heated floors?|calefaccion'),
        ('balcony', 'balcon(?:y|ies|es)?'),
        ('terrace', 'terraces?|terrazas?|patio'),
        ('pets', 'pets?|pet[ -]friendly|dogs?|cats?|mascotas?|perr[oa]s?|gat[oa]s?'),
        ('jacuzzi', 'jacuzzis?|hot tubs?|whirlpool|hidromasaje'),
        ('bathtub', 'bath ?tubs?|baneras?|tina'),
        ('spa', 'spa|sauna|massages?|masajes?'),
        ('gym', 'gym|fitness|gimnasio'),
        ('barbecue', 'barbecues?|bbq|grill|barbacoas?|asador|parrilla'),
        ('fireplace', 'fire ?places?|wood stove|chimenea'),
        ('washing_machine', 'washing machine|laundry|washer|lavadora|lavanderia'),
        ('quiet', 'quiet|peaceful|calm|tranquil[oa]?s?|silencios[oa]s?'),
        ('romantic', 'romantic[oa]?s?|honeymoon|luna de miel'),
        ('family', 'family[ -]friendly|family (?:room|suite|apartment|house)|families|familias|familiar(?:es)?'),
        ('accessible', 'wheel ?chairs?|accessible|accesibles?|step[ -]free|silla de ruedas|movilidad reducida'),
        ('city_centre', 'city cent(?:re|er)|downtown|old town|centro(?: (?:historico|de la ciudad))?|casco antiguo'),
        ('workspace', 'work ?space|desk|remote work\w*|escritorio|teletrabajo'),
        ('crib', 'cribs?|baby cots?|cots?|cunas?')
$$;

COMMENT ON FUNCTION public.public_chat_vocabulary() IS
    'What can be asked for in a unit, and by which words in English and Spanish (regular expressions over plain text)';

-- PostgreSQL keeps 32 compiled regular expressions for each session, and compiling one of this size takes milliseconds: so
-- the whole vocabulary is one expression, and which of its groups has matched says which word it was.
--
-- A word is not wanted where a "no" stands before it ("no pool", "without a garden", "sin piscina ni desayuno", "no
-- necesito desayuno"), or an "or" that goes on with such a list ("no pool or garden"). One wanted somewhere is wanted.
CREATE FUNCTION public.public_chat_preferences(plain text, wanted boolean DEFAULT true) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH vocabulary AS MATERIALIZED (
        SELECT array_agg(v.preference) AS preferences, string_agg('(' || v.words || ')', '|') AS words
        FROM public.public_chat_vocabulary() AS v
    ),
    mention AS (
        SELECT
            (
                SELECT v.preferences[part.place - 1]
                FROM unnest(matched.parts) WITH ORDINALITY AS part (text, place)
                WHERE part.place > 1 AND part.text IS NOT NULL
                LIMIT 1
            ) AS preference,
            CASE
                WHEN matched.parts[1] IN ('or', 'o') THEN lag(matched.parts[1]) OVER (ORDER BY matched.place) IS NOT NULL
                ELSE matched.parts[1] IS NOT NULL
            END AS is_unwanted
        FROM vocabulary AS v
        CROSS JOIN LATERAL regexp_matches(
            plain,
            '(?:\m(no|not|without|sin|nor|ni|or|o|don''t (?:need|want)|do not (?:need|want)|no (?:need for|necesit\w+|quer\w+|quiero))'
            '(?: (?:an?|any|the|la|el|una?|private|privad[oa]|de|con)){0,2} )?\m(?:' || v.words || ')\M',
            'g'
        ) WITH ORDINALITY AS matched (parts, place)
    )
    SELECT coalesce(array_agg(said.preference ORDER BY array_position(v.preferences, said.preference)), '{}')
    FROM vocabulary AS v
    CROSS JOIN (SELECT m.preference, bool_and(m.is_unwanted) AS is_unwanted FROM mention AS m GROUP BY m.preference) AS said
    WHERE said.is_unwanted <> wanted
$$;

COMMENT ON FUNCTION public.public_chat_preferences(text, boolean) IS
    'The things of the vocabulary that a plain text asks for or offers; with wanted false those that it rules out';

-- Spanish, English, or NULL where the few words that tell them apart are as many of each.
CREATE FUNCTION public.public_chat_language(plain text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE sign(count(word.parts[1]) - count(word.parts[2])) WHEN 1 THEN 'es' WHEN -1 THEN 'en' END
    FROM regexp_matches(
        plain,
        '\m(?:(el|la|los|las|una?|para|con|sin|de|del|que|hola|buen[oa]s|quier\w+|queremos|necesit\w+|busc\w+|tien\w+|hay|som?os|soy|desde|hasta|noches?|personas?|adultos?|nin[oa]s?|habitacion(?:es)?|gracias|favor|cuant\w+|y|en|mi|vistas?|piscina|manana|hoy)'
        '|(the|for|with|without|and|a|of|to|from|hello|hi|we|i|you|do|have|is|are|rooms?|please|thanks?|nights?|people|adults?|child(?:ren)?|in|my|need|want|looking|would|like|view|tomorrow|today))\M',
        'g'
    ) AS word (parts)
$$;

COMMENT ON FUNCTION public.public_chat_language(text) IS 'es or en, as the words of a plain text say; NULL where they do not';

-- A small whole number out of JSON in which anybody may have put anything.
CREATE FUNCTION public.public_chat_whole_number(given jsonb, least_allowed integer DEFAULT 0) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN jsonb_typeof(given) = 'number' AND given::text ~ '^\d{1,3}$' AND given::text::integer >= least_allowed
        THEN given::text::integer
    END
$$;

COMMENT ON FUNCTION public.public_chat_whole_number(jsonb, integer) IS
    'A whole number of up to three digits, or NULL where it is anything else';

-- migrate: rollback

DROP FUNCTION public.public_chat_whole_number(jsonb, integer);
DROP FUNCTION public.public_chat_language(text);
DROP FUNCTION public.public_chat_preferences(text, boolean);
DROP FUNCTION public.public_chat_vocabulary();
DROP FUNCTION public.public_chat_plain(text);
