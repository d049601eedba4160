"""Alembic migrations of the registry; run by ``registry.open_registry``."""
