"""Keep targets in a bucket of S3, or of any server that speaks its protocol and honours conditional writes."""
