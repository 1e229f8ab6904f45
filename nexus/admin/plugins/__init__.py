"""The installed plugins, and the pages that they add.

===============  ==================================================================
``inventory``    ``/admin/plugins``: each plugin, and what it contributes
``plugin_page``  ``/admin/<plugin>``: calls the plugin, and reports its failures
===============  ==================================================================
"""
