"""The parts of the soak.

==============  ========================================================
``servers``     the simulated fleet, its configuration, and its faults
``traffic``     the clients
``watching``    memory, descriptors and pages of a running proxy
``judging``     what the log and the figures of a run promise
==============  ========================================================
"""
