"""What all tests rely on."""

import signal

# In the background of a shell SIGINT is ignored, and Python does not raise KeyboardInterrupt: tests
# of Ctrl-C would wait for ever. Processes that the tests start get the default again by this.
signal.signal(signal.SIGINT, signal.default_int_handler)
