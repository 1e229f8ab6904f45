"""A blocked event loop is noticed."""

import time

from nexus import tasks
from nexus.admin.metrics import loop_lag
from nexus.admin.metrics.loop_lag import LoopLag
from nexus.testing.waiting import eventually


async def test_the_lag_of_a_blocked_loop_is_measured(monkeypatch):
    monkeypatch.setattr(loop_lag, "INTERVAL_S", 0.01)
    lag = LoopLag()
    watching = tasks.start(lag.watch(), name="loop-lag")
    await eventually(lambda: sum(lag.lags.counts) >= 2)
    before = lag.lags.sum

    time.sleep(0.1)  # noqa: ASYNC251 - what nobody should do is what is measured
    await eventually(lambda: lag.lags.sum - before >= 0.08)

    await tasks.stop(watching)
