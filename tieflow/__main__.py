"""``python -m tieflow`` is the ``tieflow`` command."""

from tieflow.launch.cli import main

main()
