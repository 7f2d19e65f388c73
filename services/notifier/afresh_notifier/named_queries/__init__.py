"""Named queries: an SQL file and a few lines of settings, which make a cached JSON endpoint.

The modules in the order in which a request goes through them: `named_query` (what the settings and the file say),
`parameters` (what a client may send, and what becomes of it), `preparation` (what PostgreSQL says of the SQL), `execution`
(how it is run), `library` (whose answers are kept, and how they are dropped), `http` (how it is asked and answered),
`description` (the same for `/openapi.json`).
"""
