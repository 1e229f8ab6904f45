"""The facts about models: ``listings`` and ``lookups`` of servers, ``guesses`` from names, operators' ``overrides``."""
