"""How the processes of one proxy talk: the parent and its workers, over a Unix socket between each two.

============  ==================================================================
``channel``   one connection between two processes: messages, and questions with answers
``peers``     questions and messages from one worker to all others, by way of the parent
``kept``      the last counts of workers that have ended
``frames``    the bytes of a message, and how they are cut out of a stream
============  ==================================================================
"""
