"""Keep the values of secrets out of all that is written or shown: what this process knows, and where it is masked.

`known` holds the values and masks them in texts and errors, `forms` says in which shapes a value can turn up, `sieve`
finds these in bytes that come piece by piece, `filters` puts a process with a sieve before the logs of an attempt,
`hooks` masks what Python itself writes about.
"""
