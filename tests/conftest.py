"""How many examples properties are tried with: some in `make test`, many in `make stress`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Neither a deadline nor a health check of time: other work on the machine fails no test.
_ANY_TIME = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

settings.register_profile("test", _ANY_TIME, max_examples=50)
settings.register_profile("stress", _ANY_TIME, max_examples=1000)
settings.load_profile("test")  # `--hypothesis-profile=stress` chooses the other
