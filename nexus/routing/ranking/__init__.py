"""How backends that could all answer are ordered: strategies, how busy and fast each backend is, and shares."""
