"""The service: listens to PostgreSQL, refreshes materialized views, tells every client what became stale.

The modules, in the order in which a change flows through them: ``listener``, ``consumer``, ``debounce``,
``dependencies`` and ``planning``, ``refresher`` and ``refresh``, ``invalidation``, ``hub``, ``websocket`` and ``sse``.
``app`` wires them together.
"""
