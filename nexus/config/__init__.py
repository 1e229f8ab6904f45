"""Reads, checks and shows the configuration.

======================  ==================================================================
``schema``              every key: its type, its default and its sentence in the reference
``discovery_schema``    the keys of ``[discovery]``
``translation_schema``  the keys of ``[translation]``
``section``             the base of all tables, and types of numbers
``loading``             file, variables and command line as one checked configuration
``sources``             decodes the file and the texts of variables and options
``rules``               what the types of the schema cannot express
``secrets``             follows references to secrets
``faults``              a wrong key, and the error text that names its place
``provenance``          what set each key
``quoting``             values as error texts quote them
``partial``             address and keys, even if other parts of the configuration are wrong
``one_backend``         one ``[[backends]]`` table that comes from elsewhere than the file
``fleet_file``          the backends of a watched file
``documents``           the reference of all keys, and the configuration in force
======================  ==================================================================
"""
