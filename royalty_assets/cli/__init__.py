"""The command line. Each command opens a project, calls the library and shows what came of it.

What belongs here: arguments, environment for child processes, exit codes. What is shown is in
``console``; what happens is in the packages below.
"""

from royalty_assets.cli.main import app

__all__ = ["app"]
