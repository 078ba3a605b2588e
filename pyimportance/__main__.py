"""``python -m pyimportance``: the command line."""

from pyimportance.cli.app import main

if __name__ == "__main__":
    main()
