"""How commands print.

============  ==================================================================
``printing``  the ``--json`` option, JSON, and tables as wide as the terminal
``columns``   aligns rows in columns, and cuts or omits columns that do not fit
============  ==================================================================
"""
