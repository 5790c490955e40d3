"""Everything on this machine: a server, its worker, and processes that end together."""
