"""The notebook's side of the machine's own engines: connection, clusters, views, executor."""
