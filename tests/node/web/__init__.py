"""DICOMweb, asked over real sockets."""
