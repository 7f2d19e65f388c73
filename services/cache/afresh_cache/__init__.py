"""What an application needs in order to hear from Afresh: patterns, wire messages, and a client.

Importable without the service: nothing here imports asyncpg or ``afresh_notifier``.
"""
