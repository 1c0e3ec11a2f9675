"""`python -m cicely`: the command line."""

from cicely.cli.main import main

if __name__ == "__main__":
    main()
