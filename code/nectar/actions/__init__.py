"""One verb a module: what the command line, and every other face, can ask for. Each returns values, none prints."""
