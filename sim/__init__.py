"""Phantoms, the small SCU and the benchmark: a PACS is measured here as its users meet it, over DICOM."""
