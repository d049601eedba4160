"""What a process of the simulation has loaded before it is told what to do.

Nothing here may start a thread: processes are forked from what this leaves.
"""

import logging

from royalty_assets.domain.territories import territory_of
from royalty_assets.sources.templates import bundled_templates
from royalty_assets_tests.soak import actor

__all__ = ["actor"]

# What the pipeline says of each fault would drown what the simulation says of its seeds.
logging.getLogger("royalty_assets").setLevel(logging.CRITICAL)
bundled_templates()
territory_of("Germany")  # reads the names of all territories in all languages
