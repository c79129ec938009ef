"""The command line: one file for each group of commands, which `main` joins."""
