-- Takes new and changed units into the public form; what became of each is in accommodation_unit_migrations. By hand, the
-- same statement without the condition shows every unit.
SELECT unit_id, tenant_id, name, outcome, error
FROM public.migrate_accommodation_units_public()
WHERE outcome <> 'unchanged'
