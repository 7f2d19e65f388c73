"""What an application needs in order to hear from Afresh: patterns, wire messages, a client, and a cache.

Importable without the service: nothing here imports asyncpg or ``afresh_notifier``.
"""
