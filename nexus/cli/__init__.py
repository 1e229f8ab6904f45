"""The command line, ``nexus-proxy``.

====================  ==================================================================
``main``              finds the command, imports its module only, and maps errors to exit codes
``plugin_commands``   commands that plugins contribute
``exit_codes``        the exit codes, and the errors that have one of their own
``standard_streams``  standard streams that are closed, or break while a command prints
``arguments``         shared options, their order, and shell completion
``commands``          one module per command
``running_proxy``     finds a running proxy and calls its admin pages
``output``            tables and JSON
====================  ==================================================================
"""
