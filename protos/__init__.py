"""The wire between peers: .proto files and the code generated from them by `make protos`."""
