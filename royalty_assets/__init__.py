"""From what music services report to what rights holders are paid: exact, provable, explained.

The tree, and which way dependencies point (import-linter holds it)::

    cli, definitions → orchestration → pipeline → {sources, storage} → domain
    simulator → domain        settings → domain
"""

__version__ = "0.1.0"
