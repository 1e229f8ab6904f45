"""For the authors of plugins: fixtures, builders and contract classes. The core never imports it."""
