"""The harness of the project's own tests; what authors of plugins use is in :mod:`nexus.testing`.

==============================================  ================================================================
``fakes``, ``fake_backends``, ``rig``           a clock, a transport, a sink; responses; a whole data plane
``rogue_stages``                                verdicts, holds and failures of a stage
``process``, ``installing``                     ``nexus-proxy`` and simulators as processes; installed plugins
``forking``                                     starts ``nexus-proxy`` without the time of the import
``raw_client``, ``streaming``, ``steady_load``  clients
``scripted``, ``collector``, ``dialects``       a scripted backend, a fake OpenTelemetry collector, wire samples
``transcripts``                                 what engines answer
``dry_runs``                                    explains decisions about requests that need no translation
``chat_dialect``                                streams and requests of OpenAI's chat dialect
``name_server``, ``lan``, ``dialing``           DNS, machines on a network, connections to backends
``coding_agents``                               agents from npm
``coding_model``, ``coding_apis``               a model that makes them work, on servers that know one API only
``bookkeeping``                                 checks for leaks and for double or missing reports
==============================================  ================================================================
"""
