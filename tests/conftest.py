"""What all tests share: reproducible Hypothesis runs where nobody watches."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# A campaign that a test runs has nothing to say on the summary page of the tests' own CI job.
os.environ.pop("GITHUB_STEP_SUMMARY", None)

# No deadlines: machines are shared, and how long a test takes is not what it asserts.
settings.register_profile(
    "dagstorm", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# In CI the same examples every time, so that red always means "this change".
settings.register_profile("ci", settings.get_profile("dagstorm"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dagstorm")

# Started in the background by a shell, the tests would ignore Ctrl-C, and so would all commands
# that they start, some of which they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Commands that the tests run must not write into the registry of whoever runs the tests.
os.environ.setdefault("DAGSTORM_REGISTRY", "none")
