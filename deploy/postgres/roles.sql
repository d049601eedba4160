-- Three roles for the registry in PostgreSQL (15 or newer), and what each may do.
--
--   royalty_owner    owns the tables and migrates them; nothing runs as it from day to day
--   royalty_app      runs the pipeline: reads and adds; can change and remove nothing that counts
--   royalty_auditor  reads, and nothing else
--
-- Run it as a superuser, in the project's database, before the first migration and again after
-- each one: psql -v ON_ERROR_STOP=1 -d royalties -f roles.sql
-- It can be run any number of times. No password is in it: \password sets them.

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['royalty_owner', 'royalty_app', 'royalty_auditor']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

BEGIN;

ALTER ROLE royalty_auditor SET default_transaction_read_only = on;

-- The registry's schema. Nobody has any right by being somebody.
CREATE SCHEMA IF NOT EXISTS royalty_assets AUTHORIZATION royalty_owner;
REVOKE ALL ON SCHEMA royalty_assets FROM PUBLIC;
GRANT USAGE ON SCHEMA royalty_assets TO royalty_app, royalty_auditor;

-- Tables that are there, and those that later migrations make: reading and adding, no more.
REVOKE ALL ON ALL TABLES IN SCHEMA royalty_assets FROM PUBLIC, royalty_app, royalty_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA royalty_assets TO royalty_app, royalty_auditor;
GRANT INSERT ON ALL TABLES IN SCHEMA royalty_assets TO royalty_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA royalty_assets TO royalty_app;
ALTER DEFAULT PRIVILEGES FOR ROLE royalty_owner IN SCHEMA royalty_assets
    GRANT SELECT ON TABLES TO royalty_app, royalty_auditor;
ALTER DEFAULT PRIVILEGES FOR ROLE royalty_owner IN SCHEMA royalty_assets
    GRANT INSERT ON TABLES TO royalty_app;
ALTER DEFAULT PRIVILEGES FOR ROLE royalty_owner IN SCHEMA royalty_assets
    GRANT USAGE ON SEQUENCES TO royalty_app;

-- What a run that died left of a revision, the next one removes. Of a revision that is committed
-- nobody removes anything. A trigger, and no policy: columns of policies cannot be migrated.
CREATE OR REPLACE FUNCTION royalty_assets.keep_what_is_committed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM royalty_assets.commits AS c
        WHERE c.feed = OLD.feed AND c.partition_key = OLD.partition_key
          AND c.revision = OLD.revision
          AND c.stage = coalesce(to_jsonb(OLD) ->> 'stage', 'validated')
    ) THEN
        RAISE EXCEPTION 'permission denied for table %: the revision is committed', TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN OLD;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['dead_letters', 'reports'] LOOP
        CONTINUE WHEN to_regclass('royalty_assets.' || name) IS NULL;
        EXECUTE format('GRANT DELETE ON royalty_assets.%I TO royalty_app', name);
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER kept BEFORE DELETE ON royalty_assets.%I '
            'FOR EACH ROW EXECUTE FUNCTION royalty_assets.keep_what_is_committed()', name);
    END LOOP;

    -- The version of the schema is the owner's to write.
    IF to_regclass('royalty_assets.alembic_version') IS NOT NULL THEN
        REVOKE INSERT ON royalty_assets.alembic_version FROM royalty_app;
    END IF;
    -- Turns are no history: whoever begins work on a partition takes the next one.
    IF to_regclass('royalty_assets.turns') IS NOT NULL THEN
        GRANT UPDATE ON royalty_assets.turns TO royalty_app;
    END IF;
END
$$;

-- Dagster keeps its records in the same database, in `public`, and makes its tables by itself.
GRANT USAGE, CREATE ON SCHEMA public TO royalty_app;

COMMIT;
