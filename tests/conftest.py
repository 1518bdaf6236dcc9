"""What holds for every test: a time never decides one."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("turnwire", deadline=None)
settings.load_profile("turnwire")
