"""What `docs/` says about the command line, written from the commands themselves: `python -m reference.generate`."""
