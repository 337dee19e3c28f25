"""The `dunlin` command and what a start on one machine needs."""
