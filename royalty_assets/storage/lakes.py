"""Which lake a project has: a folder of this machine, or a prefix on S3."""

from pathlib import Path
from urllib.parse import urlsplit

from royalty_assets.settings import Settings
from royalty_assets.storage.lake import Lake, LocalLake


def open_lake(settings: Settings) -> Lake:
    """The lake of a project; nothing is asked of it before it is used.

    Raises:
        SettingsError: if its URL is of neither kind.
    """
    url = settings.lake
    if not url.startswith("s3://"):
        return LocalLake(Path(url))
    # boto3 takes half a second to load, and most projects do not need it.
    from royalty_assets.storage.object_cache import ObjectCache
    from royalty_assets.storage.s3_lake import S3Lake, s3_client

    parts = urlsplit(url)
    cache = ObjectCache(settings.lake_cache, settings.lake_cache_size)
    return S3Lake(s3_client(), parts.netloc, parts.path.strip("/"), cache)
