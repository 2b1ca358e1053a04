"""Messages, out-of-band frames and the private folder in which a cluster's sockets live."""
