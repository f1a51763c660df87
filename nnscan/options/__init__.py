"""What a scan file may say: the declared options of each table, and how a value is checked against its option."""
