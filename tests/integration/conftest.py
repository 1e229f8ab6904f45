"""The number of xdist workers for these tests."""

import os


def pytest_xdist_auto_num_workers():
    """Use more workers than cores: these tests wait half of their time."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)
