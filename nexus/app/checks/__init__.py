"""What ``nexus-proxy check`` looks at in addition to the configuration.

=================  ==================================================================
``host_names``     names that cannot be looked up
``watched_files``  files of backends that cannot be used
=================  ==================================================================
"""
