"""``python -m tieflow`` is the ``tieflow`` command."""

from tieflow.launch.commands.cli import main

main()
