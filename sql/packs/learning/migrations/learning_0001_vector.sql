-- pgvector, which the columns of embeddings and the search for similar knowledge need
-- depends:

-- migrate: apply

-- Indexed searches are cut down to one shop by a condition beside the index. Only from 0.8 on does pgvector go on
-- looking where its first candidates are all of other shops; before, such a search would miss what is there.
DO $$
DECLARE
    installed text;
    offered text;
BEGIN
    SELECT extension.extversion INTO installed
    FROM pg_catalog.pg_extension AS extension WHERE extension.extname = 'vector';
    IF installed IS NULL THEN
        SELECT available.default_version INTO offered
        FROM pg_catalog.pg_available_extensions AS available WHERE available.name = 'vector';
        IF offered IS NULL THEN
            RAISE EXCEPTION 'this server has no pgvector, which the pack learning needs'
                USING ERRCODE = 'feature_not_supported',
                HINT = format(
                    'Install it on the server (Debian and Ubuntu: the package postgresql-%s-pgvector; images: '
                    'pgvector/pgvector), then migrate again. The server needs no restart.',
                    current_setting('server_version_num')::integer / 10000
                );
        END IF;
    END IF;
    IF string_to_array(substring(coalesce(installed, offered) FROM '^\d+\.\d+'), '.')::integer[] < ARRAY[0, 8] THEN
        RAISE EXCEPTION 'pgvector is % here, and the pack learning needs 0.8 or later', coalesce(installed, offered)
            USING ERRCODE = 'feature_not_supported',
            HINT = 'Install a newer pgvector on the server, and then: ALTER EXTENSION vector UPDATE';
    END IF;
END
$$;

CREATE EXTENSION IF NOT EXISTS vector;

-- migrate: rollback

-- The extension stays: other tables may have columns of its type.
DO $$
BEGIN
    RAISE NOTICE 'the extension vector stays';
END
$$;
