"""The next batch to label, for people who live in files.

    python -m deimos select --pool pool.csv --labelled labelled.csv --batch 96 --out picks.csv
    python -m deimos example FOLDER

Write the labels of the picks into their `label` column and give both files: that is the next round.
"""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command, if what it needs is installed; the exit status."""
    try:
        from deimos.label_next import command
    except ModuleNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 2
    return command.run_command(arguments, __doc__.splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
