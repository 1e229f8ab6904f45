"""The process that Nexus runs in: sockets, file descriptors, memory, signals of the system, systemd."""
