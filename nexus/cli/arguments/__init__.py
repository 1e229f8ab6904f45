"""What is read from the command line.

===================  ==================================================================
``options``          the options of every command that reads the configuration
``option_order``     accepts options before the name of a command as well as after it
``backend_keys``     ``KEY=VALUE`` as the keys of one ``[[backends]]`` table
``bash_completion``  completes words with colons, blanks and quotes in bash
===================  ==================================================================
"""
