"""How the laws are tried: no deadline (machines are shared), nothing left on disk, failures repeatable."""

from hypothesis import settings

settings.register_profile("house", deadline=None, database=None, print_blob=True)
settings.load_profile("house")
