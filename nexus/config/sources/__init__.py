"""Where values come from, decoded into the types of the schema.

============  ==================================================================
``decoding``  a table into its type, or a fault that names the exact key
``texts``     the text of a variable or an option as the type of its key
``env``       ``NEXUS_*`` variables
============  ==================================================================
"""
