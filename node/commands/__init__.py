"""The commands of `peerpacs`, one module for each family; `node.cli` imports one when it is run."""
