"""One hospital's PACS as a normal program: gateway, storage, ingest, retrieval, command line."""
