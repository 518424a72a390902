"""`meter.reloading.document` on files and on blobs."""
