"""What all tests share: property tests are told by their own bounds, not by a clock that other work slows."""

from hypothesis import settings

settings.register_profile("ixt", deadline=None, derandomize=True)
settings.load_profile("ixt")
