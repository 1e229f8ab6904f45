"""The configuration for people.

=============  ==================================================================
``reference``  every key as an example file and as a page of the documentation
``effective``  the configuration in force, without its secrets
=============  ==================================================================
"""
