"""One module per command of ``nexus-proxy``.

Run a proxy: ``serve``, ``demo``, ``announce``. Check one before a start: ``check``, ``config``, ``pipeline``,
``plugins`` with ``plugin_check``. Ask a running one: ``backends`` with ``backend_tables``, ``models``, ``queue``,
``health``, ``explain``, ``decisions``. For shells: ``completions``.
"""
