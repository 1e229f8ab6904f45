"""Nexus: an HTTP proxy in front of a fleet of LLM servers.

Each package's docstring lists its modules, so it leads further down.

==================  ==================================================================
Carries requests
``proxy``           the client's connection, the exchange, the connection to the backend
``wire``            the protocols of OpenAI, Anthropic and Ollama: bodies, streams, errors; no I/O
``translation``     lets a client of one API use a backend of another; no I/O
``routing``         which backend gets a request, and why: aliases, stages, ranking; no I/O
``dialing``         opens connections to backends: DNS, TLS, proxies, credentials
``workers``         how the processes of one proxy talk
Knows the backends
``fleet``           discovery, probes, health, models and membership of the backends
``store``           what survives a restart: memory or SQLite
Shows what happens
``admin``           the pages of operators: health, backends, statistics, ``/metrics``
``dashboard``       the page for people, and its live feed
``observability``   logs, metrics and traces
Puts it together
``app``             composition root: builds, starts, reloads and stops all of it
``cli``             the commands of ``nexus-proxy``
``config``          ``nexus.toml``, ``NEXUS_*`` variables and options as one checked value
``domain``          the values that all layers share, such as backend, model, request, outcome
``errors``          every error that Nexus raises
``error_codes``     the code, status, message and retry rule of each error to clients
``tasks``           background tasks that are named, supervised and restarted
Plugins and tests
``api``             everything that a plugin may import
``hookspecs``       the hooks that a plugin may implement
``plugin_manager``  finds, loads and configures plugins
``containment``     catches what the code of a plugin raises
``simulator``       a simulated inference server
``testing``         fixtures and contract tests for the authors of plugins
==================  ==================================================================
"""

__version__ = "0.1.0"
