"""What survives a restart, behind one interface."""
