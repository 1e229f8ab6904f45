"""From the name in a request to models: aliases, patterns, and requests that name no model."""
