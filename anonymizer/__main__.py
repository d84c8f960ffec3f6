"""The command: `python -m anonymizer IN OUT --profile research --project KEY`."""

from anonymizer.command import main

main()
