"""Which headers pass, in each direction, and how the heads that go on are made of them."""
