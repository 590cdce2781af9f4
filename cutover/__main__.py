"""`python -m cutover`: the same as the command `cutover`."""

from cutover.cli import main

if __name__ == "__main__":
    main()
