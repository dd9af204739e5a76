"""What can keep a run from going on on this machine."""


class LocalError(Exception):
    """A message for people: what is wrong and what to do."""
