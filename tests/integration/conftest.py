"""How many of these tests run at once."""

import os


def pytest_xdist_auto_num_workers():
    """Ask for more workers than cores: these tests wait for processes and clocks half of their time."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)
