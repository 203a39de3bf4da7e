"""Alembic's entry: runs the scripts on the connection that `storage.migrate` hands over. No configuration file."""

from __future__ import annotations

from alembic import context

from engram_core.storage.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
