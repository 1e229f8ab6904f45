"""What is true across the processes that share one fleet.

================  ==================================================================
``slot_broker``   divides the slots of limited backends among processes
``slot_keeper``   the broker's counterpart in each process
================  ==================================================================
"""
