"""What ``nexus-proxy check`` looks at besides the configuration itself.

=================  ==================================================================
``host_names``     names that cannot be looked up
``watched_files``  files of backends that cannot be used
=================  ==================================================================
"""
