"""Alembic's entry point: runs on the connection that ``open_registry`` passes in."""

from alembic import context

from royalty_assets.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
