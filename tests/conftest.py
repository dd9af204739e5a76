"""What all tests share."""

import signal

from hypothesis import settings

# Property tests are told by their own bounds, not by a clock that other work slows.
settings.register_profile("ixt", deadline=None, derandomize=True)
settings.load_profile("ixt")

# Tests send signals to what they start; children of a background job or of nohup are told to ignore some.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
