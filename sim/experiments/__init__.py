"""The cloud PACS paper's experiments and a few more, by name, against any PACS."""
