"""What may go wrong while the local stack starts, in words for the person at the terminal."""


class StackError(Exception):
    """The stack cannot start or go on; the message says why and what to do."""


class ServiceDied(StackError):
    """A process ended while it was starting; the message ends with its last log lines."""
