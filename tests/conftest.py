"""What every test session shares: without torch, the packages that need it are left out."""

from importlib.util import find_spec

import pytest

WITHOUT_TORCH = find_spec("torch") is None
collect_ignore = ["stages", "export"] if WITHOUT_TORCH else []


def pytest_report_header(config: pytest.Config) -> str:
    """Say which kind of session this is."""
    return "torch: absent, its tests left out" if WITHOUT_TORCH else "torch: here"
