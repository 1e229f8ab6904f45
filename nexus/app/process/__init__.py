"""The process that Nexus runs in.

================  ==================================================================
``binding``       binds the sockets; ``port_owner`` names the owner of a taken port
``accept_queue``  stops listening without resetting new connections
``event_loop``    runs the event loop until the proxy has stopped
``file_limit``    the limit of file descriptors
``cores``         how many workers are to serve, and how many cores there are
``huge_pages``    starts the program again so that its memory is on huge pages
``memory``        returns memory to the system after a burst
``interpreter``   imports, thread switching and garbage collection
``state_file``    the file that tells commands where the proxy listens
``systemd``       notifies systemd
================  ==================================================================
"""
