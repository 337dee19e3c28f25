"""The use cases of Dunlin, one capability per file."""
