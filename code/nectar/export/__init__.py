"""Write what is to be carried out for another engine: each node makes one thing, by the ordinary command."""
