"""Where exports are put: a container of Blob Storage, or a local folder."""
