"""Lets several processes use one fleet: one has it and publishes it, the others follow.

=====================  ==================================================================
The process that has the fleet
``publisher``          publishes the fleet, and takes what followers report and ask
``division``           keeps the limits that the broker divides equal to those of the rows
``replicas``           leases slots from the store that replicas share
``shared_decisions``   follows drains and approvals of other replicas
``lone_process``       the same for a proxy of one process, which has no followers
``slot_broker``        divides the slots of limited backends among processes
A process that follows
``following``          the fleet of another process, with the interface of a fleet
``followed_backends``  the backends that administrators have added there
``outcome_reports``    reports how attempts ended
``counting``           reports how many requests are in flight
``slot_keeper``        keeps the allotments that the broker grants
Both
``messages``           what they send each other
``rows``               the rows of the fleet as bytes
``pages``              what the pages for operators need, as a message
``refusals``           the exceptions by which a change is refused
=====================  ==================================================================
"""
