"""``python -m launch`` is the ``tieflow`` command."""

from launch.cli import main

main()
