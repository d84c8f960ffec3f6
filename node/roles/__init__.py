"""The roles of one node on hosts of their own: catalog and storage, as others reach them by the network."""
