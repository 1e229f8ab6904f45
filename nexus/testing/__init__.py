"""Fixtures, builders and contract classes for the tests of plugins; the core never imports it.

=======================  ==================================================================
``fixtures``             the fixtures; needs ``pytest_plugins = ["nexus.testing.fixtures"]``
``builders``             backends, fleets, intents and outcomes
``routing``              routers around the stages of a test
``reconciler_contract``  the contract of stages, for which ``alike`` makes pairs of requests
``store_contract``       the contract of stores; ``readme_contract`` that of READMEs
``shared_store``         a store that replicas share, in memory; ``shared_store_contract`` is its contract
``strategies``           Hypothesis strategies; ``policy_keys`` samples the keys of a plugin
``imports``              checks what a plugin imports
``plugin_check``         ``nexus-proxy plugins check``
``proxy``                runs a proxy; ``fleets`` and ``ports`` prepare its configuration
``client``               a plain HTTP client
``events``               captured log events; ``waiting`` waits for a condition
=======================  ==================================================================
"""
