"""One subcommand a file; each defines `command`."""
