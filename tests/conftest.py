"""What all tests share."""

import signal

from hypothesis import settings

# Property tests are told by their own bounds, not by a clock that other work slows.
settings.register_profile("ixt", deadline=None, derandomize=True)
settings.load_profile("ixt")

# Tests interrupt what they start, and whoever runs the tests in the background has children ignore that.
signal.signal(signal.SIGINT, signal.default_int_handler)
