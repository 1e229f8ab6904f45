"""The nouns of Nexus: frozen structs that every layer may hold and none may change."""
