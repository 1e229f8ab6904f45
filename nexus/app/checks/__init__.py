"""What ``nexus-proxy check`` looks at in addition to the configuration.

=================  ==================================================================
``reachability``   hosts that cannot be looked up, and backends that refuse connections
``watched_files``  files of backends that cannot be used
=================  ==================================================================
"""
