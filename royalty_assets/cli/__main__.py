"""``python -m royalty_assets.cli``."""

from royalty_assets.cli import app

app()
